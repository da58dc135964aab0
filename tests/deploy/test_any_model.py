"""Export of a model that takes more than an image and returns more than instances, and its result."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from ibkd_mm.deploy import export as export_module
from ibkd_mm.deploy.export import export_model
from ibkd_mm.deploy.formats import open_model
from ibkd_mm.deploy.parity import TensorParity, compare_tensors
from ibkd_mm.deploy.task import ExportSettings
from ibkd_mm.distill.interfaces import Exportable, Result
from ibkd_mm.errors import UserError


class ToyGraph(nn.Module):
    """A heat map of an image and the distance of its mean to a prior; sides are multiples of 4."""

    inputs = {
        "image": (("batch", 3, "rows", "columns"), torch.float32),
        "prior": (("batch", 5), torch.float32),
    }
    outputs = ("heat", "distance")
    dynamic_axes = {"batch": range(1, 65), "rows": range(4, 401, 4), "columns": range(4, 401, 4)}
    parity_rule = "tensors"
    runtime = None
    metadata = {"classes": ["normal", "anomalous"], "threshold": 0.5}

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.eval().requires_grad_(False)

    def example_inputs(self, lengths, seed=0):
        size = {"batch": 2, "rows": 12, "columns": 20, **lengths}
        draws = torch.Generator().manual_seed(seed)
        image = torch.rand(size["batch"], 3, size["rows"], size["columns"], generator=draws)
        return image, torch.rand(size["batch"], 5, generator=draws)

    def forward(self, x: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convolution(x)
        return features.sigmoid().mean(1), (features.mean((2, 3)) - vector).norm(dim=1)


class Toy(nn.Module):
    num_classes = None

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, 4, 4)

    def export_graph(self) -> ToyGraph:
        return ToyGraph(self.convolution)


@pytest.fixture
def toy():
    return Toy()


def _shapes(path):
    graph = onnx.load(path).graph
    return {
        value.name: [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_a_model_with_two_inputs_is_exported_with_dynamic_axes(toy, tmp_path, suffix):
    assert isinstance(toy, Exportable)
    out = tmp_path / f"toy.{suffix}"
    metadata, checked = export_model(toy, out, ExportSettings(dynamic=True, size=(16, 24)))
    assert checked.result.passed
    assert set(checked.result.differences) == {"heat", "distance"}
    assert max(checked.result.differences.values()) < 1e-5
    assert "Checked on 16 example inputs:\n  heat" in str(checked)
    assert (metadata["threshold"], metadata["classes"][1], metadata["dynamic"]) == (0.5, "anomalous", True)
    image, prior = np.ones((5, 3, 8, 40), np.float32), np.zeros((5, 5), np.float32)
    heat, distance = toy.export_graph()(torch.from_numpy(image), torch.from_numpy(prior))
    found = open_model(out)(image, prior)
    np.testing.assert_allclose(found["heat"], heat, atol=1e-5)
    np.testing.assert_allclose(found["distance"], distance, atol=1e-5)


def test_batch_and_size_are_fixed_unless_dynamic(toy, tmp_path):
    export_model(toy, tmp_path / "toy.onnx", ExportSettings(batch=3, size=(16, 24)))
    assert _shapes(tmp_path / "toy.onnx") == {
        "image": [3, 3, 16, 24],
        "prior": [3, 5],
        "heat": [3, 4, 6],
        "distance": [3],
    }
    entries = onnxruntime.InferenceSession(tmp_path / "toy.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(entries["ibkd_mm.classes"]) == ["normal", "anomalous"]
    assert json.loads(entries["ibkd_mm.size"]) == [16, 24]
    with pytest.raises(UserError, match=r"multiples of 4, from 4 to 400. --size is 18 500; .* --size 16 400"):
        export_model(toy, tmp_path / "other.onnx", ExportSettings(size=(18, 500)))


def test_a_graph_that_is_wrong_fails_and_leaves_no_file(toy, tmp_path, monkeypatch):
    wrong = Toy()
    with torch.no_grad():
        wrong.convolution.bias += 0.01
    trace = export_module.trace
    monkeypatch.setattr(export_module, "trace", lambda graph, **how: trace(wrong.export_graph(), **how))
    _, checked = export_model(toy, tmp_path / "toy.onnx", ExportSettings(dynamic=True, size=(16, 24)))
    assert not checked.result.passed
    assert checked.result.differences["distance"] > 1e-3
    assert list(tmp_path.iterdir()) == []


def test_tensors_of_another_shape_or_without_numbers_differ_infinitely(toy):
    graph = toy.export_graph()
    inputs = [graph.example_inputs({}, seed) for seed in range(2)]

    def forward(*arrays):
        heat, distance = (each.numpy() for each in graph(*map(torch.from_numpy, arrays)))
        return {"heat": heat + np.float32(1e-3), "distance": distance[:1]}

    parity = compare_tensors(forward, graph, inputs, 1e-4)
    assert parity.differences["heat"] == pytest.approx(1e-3, rel=1e-3)
    assert parity.differences["distance"] == float("inf")
    assert not TensorParity(1e-4).passed
    assert TensorParity(1e-4, {"heat": 1e-5}).passed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"half": True}, "Toy cannot be exported like this: .*'half'"),
        ({"max_instances": 3}, "Toy cannot be exported like this: .*'max_instances'"),
        ({"int8": 3}, "--int8 is only for models that predict instances"),
        ({"runtime": True}, "--runtime: this model has none"),
    ],
)
def test_options_that_a_model_does_not_take_are_refused(toy, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        export_model(toy, tmp_path / "toy.onnx", ExportSettings(size=(16, 24), **settings))
    assert list(tmp_path.iterdir()) == []


class HeatMap:
    """A result of the toy: a map from 0 to 1."""

    def __init__(self, heat):
        self.heat = heat

    def draw(self, image):
        return (image * (1 - self.heat[..., None])).astype(np.uint8)

    def save(self, path):
        np.save(path, self.heat)

    def to_coco(self):
        return []


def test_a_result_draws_saves_and_converts_itself(tmp_path):
    result = HeatMap(np.array([[0.0, 1.0]]))
    assert isinstance(result, Result)
    assert result.draw(np.full((1, 2, 3), 200, np.uint8))[0, :, 0].tolist() == [200, 0]
    result.save(tmp_path / "heat.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "heat.npy"), result.heat)
    assert result.to_coco() == []
