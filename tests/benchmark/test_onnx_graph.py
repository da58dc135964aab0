"""Parameters and operations of ONNX graphs: the same as PyTorch's of the same network, and nodes by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ibkd_mm.benchmark.onnx_graph import bytes_on_disk, count_graph_flops, count_parameters, read_graph
from ibkd_mm.benchmark.pytorch_model import count_flops


class Net(nn.Module):
    """All that multiplies: convolutions of three kinds, a linear layer, a product of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.enlarge = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.linear = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.enlarge(self.depthwise(self.spread(images)).relu()).flatten(2)
        return self.linear(maps.mean(2)), maps @ maps.transpose(1, 2)


@pytest.fixture(scope="module", params=["fixed", "dynamic"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, nn.Module]:
    net, path = Net().eval(), tmp_path_factory.mktemp("net") / "net.onnx"
    sides = {name: torch.export.Dim(f"half_{name}", min=4, max=64) * 2 for name in ("height", "width")}
    shapes = ({0: torch.export.Dim("batch"), 2: sides["height"], 3: sides["width"]},)
    torch.onnx.export(
        net,
        (torch.rand(2, 3, 32, 48),),
        path,
        input_names=["images"],
        dynamo=True,
        dynamic_shapes=shapes if request.param == "dynamic" else None,
        external_data=False,
        verbose=False,
    )
    return path, net


def test_a_graph_counts_as_the_network_that_it_is_of(exported: tuple[Path, nn.Module]) -> None:
    path, net = exported
    model, images = read_graph(path), np.ones((2, 3, 32, 48), np.float32)
    counted = count_graph_flops(model, {"images": images}, path.parent)
    assert counted == count_flops(lambda: net(torch.from_numpy(images)))
    assert counted is not None
    assert counted.products == 2 * 2 * 4 * 4 * 32 * 48
    assert count_parameters(model) == sum(each.numel() for each in net.parameters())
    assert bytes_on_disk(model, path) == path.stat().st_size


def _model(nodes: list[Any], inputs: dict[str, tuple], **weights: np.ndarray) -> Any:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_weight_may_come_through_other_nodes(tmp_path: Path) -> None:
    """As in a file of eight bits: values and scale are multiplied first, which makes them no activation."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["float_w"]),
        helper.make_node("Transpose", ["float_w"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    weights = {"w": np.ones((7, 5), np.int8), "scale": np.float32(0.5)}
    model = _model(nodes, {"x": ("rows", 5)}, **weights)
    assert count_graph_flops(model, {"x": np.ones((3, 5), np.float32)}, tmp_path) == (2 * 3 * 5 * 7, 0)
    assert count_parameters(model) == 7 * 5 + 1


def test_a_shape_that_depends_on_values_is_seen_in_a_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["float_places"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "float_places"], ["y"]),
    ]
    model = _model(nodes, {"x": (2, 4)}, w=np.ones((3, 2), np.float32))
    x = np.zeros((2, 4), np.float32)
    x[0, 1] = x[1, 3] = x[1, 2] = 1
    assert count_graph_flops(model, {"x": x}, tmp_path) == (2 * 3 * 2 * 3, 0)


def test_a_run_for_shapes_finds_the_weights_beside_the_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Gather", ["w", "places"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    model, path = _model(nodes, {"x": (4,)}, w=np.ones((4, 4), np.float32)), tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    x = np.float32([0, 1, 1, 0])
    assert count_graph_flops(read_graph(path), {"x": x}, tmp_path) == (2 * 2 * 4 * 4, 0)


def test_what_multiplies_in_unknown_ways_is_not_counted_half(tmp_path: Path) -> None:
    """No figure is better than one that leaves out the most of it."""
    w, x = np.ones((5, 5), np.float32), np.ones((5, 5), np.float32)
    for node in (
        helper.make_node("Einsum", ["a", "x"], ["y"], equation="ij,jk->ik"),
        helper.make_node("FusedMatMul", ["a", "x"], ["y"], domain="com.microsoft"),
    ):
        model = _model([helper.make_node("MatMul", ["x", "w"], ["a"]), node], {"x": (5, 5)}, w=w)
        assert count_graph_flops(model, {"x": x}, tmp_path) is None


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (1, 64)}, w=np.ones((64, 64), "f4"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    read = read_graph(path)
    assert bytes_on_disk(read, path) == path.stat().st_size + 4 * 64 * 64
    assert count_parameters(read) == 64 * 64
    assert count_graph_flops(read, {"x": np.ones((1, 64), "f4")}, tmp_path) == (2 * 64 * 64, 0)
