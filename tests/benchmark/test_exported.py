"""Exported files, other projects' and ours, as a benchmark runs them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings
from ibkd_mm.benchmark.exported import open_exported
from ibkd_mm.benchmark.onnx_model import load_onnx
from ibkd_mm.benchmark.openvino_model import load_openvino
from ibkd_mm.deploy.formats import save_onnx, save_openvino
from ibkd_mm.deploy.runtime import FORMAT, InstanceSegmenter, ModelInfo
from ibkd_mm.errors import UserError
from ibkd_mm.utils import optional_packages as packages

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
LOADERS = {".onnx": load_onnx, ".xml": load_openvino}


def _model(inputs: list[Any], nodes: list[Any], outputs: list[str], **weights: np.ndarray) -> Any:
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A convolution over open sizes, and a second input that is no image."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT16, ("n", 3, "h", "w"))
    factor = helper.make_tensor_value_info("factor", TensorProto.INT64, (1,))
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "w"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["factor"], ["float_factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["maps", "float_factor"], ["y"]),
    ]
    model = _model([images, factor], nodes, ["y"], w=np.ones((4, 3, 3, 3), np.float32))
    onnx.save(model, tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


INFO = ModelInfo(
    format=FORMAT,
    version="0",
    precision="fp32",
    classes=["one", "two"],
    size=[64, 96],
    dynamic=True,
    keep_ratio=True,
    stride=32,
    mask_stride=4,
    pixels="RGB",
    normalisation="none",
    pad=[114.0, 114.0, 114.0],
    score_threshold=0.001,
    mask_threshold=0.5,
)


@pytest.fixture(params=[".onnx", ".xml"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three instances, as a student returns them; the image's red channel adds to the first score."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, "h", "w"))
    scale = np.float32([[[[1e-3, 0, 0]]]])
    nodes = [
        helper.make_node("Mul", ["images", "red"], ["only_red"]),
        helper.make_node("ReduceMean", ["only_red"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "scale"], ["more"]),
        helper.make_node("Squeeze", ["more", "axes"], ["flat"]),
        helper.make_node("Add", ["flat", "base"], ["scores"]),
        helper.make_node("Identity", ["fixed_boxes"], ["boxes"]),
        helper.make_node("Identity", ["fixed_labels"], ["labels"]),
        helper.make_node("Identity", ["fixed_masks"], ["masks"]),
    ]
    model = _model(
        [images],
        nodes,
        ["boxes", "scores", "masks"],
        red=np.float32([1, 0, 0]).reshape(1, 3, 1, 1),
        scale=scale,
        axes=np.int64([1, 2]),
        base=np.float32([[0.5, 0.3, 0.0005]]),
        fixed_boxes=np.float32([[[4, 4, 40, 40], [0, 0, 90, 50], [1, 1, 9, 9]]]),
        fixed_labels=np.int64([[0, 1, 1]]),
        fixed_masks=np.ones((1, 3, 16, 24), np.float32),
    )
    model.graph.output.insert(2, helper.make_tensor_value_info("labels", TensorProto.INT64, None))
    save_onnx(model, asdict(INFO), tmp_path / "ours.onnx")
    if request.param == ".xml":
        save_openvino(model, asdict(INFO), tmp_path / "ours.xml", tmp_path / "ours.onnx")
    return tmp_path / f"ours{request.param}"


def _open(path: Path, **settings: Any) -> BenchmarkModel:
    chosen = BenchmarkSettings(**settings)
    return open_exported(LOADERS[path.suffix](path, chosen), IMAGE, chosen)


def test_a_foreign_file_runs_on_noise_and_has_no_pipeline(foreign: Path) -> None:
    model = _open(foreign, size=(32, 64), batch=2)
    assert (model.runtime, model.pipeline) == ("ONNX Runtime", None)
    assert model.inputs == [(2, 3, 32, 64), (1,)]
    assert model.forward()["y"].shape == (2, 4, 32, 64)
    counts = model.count()
    assert counts == (4 * 3 * 9, foreign.stat().st_size, (2 * 4 * 27 * 2 * 32 * 64, 0))


def test_a_foreign_file_with_an_open_size_needs_one(foreign: Path) -> None:
    with pytest.raises(UserError, match=r"input 'images' of .* is open \(\?x3x\?x\?\).*--size 640 640"):
        _open(foreign)


def test_our_file_runs_as_its_runtime_does(ours: Path) -> None:
    """On the image in RGB, with the file's or the benchmark's threshold; the third score is below both."""
    model = _open(ours, threads=1)
    assert model.inputs == [(1, 3, 64, 96)]
    assert model.pipeline is not None
    assert model.pipeline() == 2
    found = InstanceSegmenter(ours.with_suffix(".onnx"), score=0.001)(IMAGE[..., ::-1])
    assert len(found) == 2
    assert model.forward()["scores"][0, 0] == pytest.approx(found[0].score, abs=1e-6)
    higher = _open(ours, threads=1, score=0.4)
    assert higher.pipeline is not None
    assert higher.pipeline() == 1


def test_our_file_takes_another_size_and_batch_if_they_are_open(ours: Path) -> None:
    model = _open(ours, size=(96, 64), batch=2)
    assert (model.inputs, model.pipeline) == ([(2, 3, 96, 64)], None)
    with pytest.raises(UserError, match=r"multiples of 32 for .*found 50 64"):
        _open(ours, size=(50, 64))


def test_openvino_counts_its_weights_and_no_flops(ours: Path) -> None:
    counts = _open(ours).count()
    files = [ours] if ours.suffix == ".onnx" else [ours, ours.with_suffix(".bin")]
    assert counts.size == sum(file.stat().st_size for file in files)
    assert counts.parameters == 3 + 3 + 3 + 12 + 3 * 16 * 24
    assert counts.flops == ((0, 0) if ours.suffix == ".onnx" else None)


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_file_that_is_not_a_model_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text("<net/>")
    with pytest.raises(
        UserError, match=rf"net{suffix} is not an? .*model that (onnxruntime|OpenVINO) [\d.]+"
    ):
        LOADERS[suffix](path, BenchmarkSettings())


def test_a_gpu_that_the_runtime_cannot_use_is_refused(foreign: Path, ours: Path) -> None:
    with pytest.raises(UserError, match=r"cannot use the device 'cuda' .*onnxruntime-gpu"):
        load_onnx(foreign, BenchmarkSettings(device="cuda"))
    with pytest.raises(UserError, match="runs on the CPU only"):
        load_openvino(ours, BenchmarkSettings(device="cuda"))


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(packages, "import_module", missing)
    with pytest.raises(UserError, match=r"net\S+ needs \w+, .*pip install -r requirements/deploy\.txt"):
        LOADERS[suffix](Path(f"net{suffix}"), BenchmarkSettings())
