"""The benchmark by its command: several runtimes in one table, what it writes, what it refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ibkd_mm import cli
from ibkd_mm.apis import TrainResult
from ibkd_mm.apis.benchmark import benchmark
from ibkd_mm.benchmark import memory_process

QUICK = ["--rounds", "2", "--warmup", "1", "--threads", "1"]


@pytest.fixture
def net() -> Path:
    """An ONNX file of one convolution, in the folder that the test runs in."""
    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "net.onnx")
    return Path("net.onnx")


def test_files_and_configs_are_rows_of_one_table(
    net: Path, tiny: Path, trained: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(net), str(tiny), f"{tiny},{trained.last}"]
    assert (
        cli.main(["benchmark", *models, *QUICK, "--size", "64", "64", "--no-memory", "--out", "table.json"])
        == 0
    )
    said = capsys.readouterr()
    assert "Reading net.onnx" in said.err
    table = json.loads(Path("table.json").read_text())
    assert table["environment"]["threads"] == 1
    assert {"torch", "onnxruntime", "openvino", "ibkd_mm"} <= table["environment"]["versions"].keys()
    first, second, third = table["models"]
    assert [each["name"] for each in table["models"]] == [
        "net.onnx",
        "tiny.py",
        f"tiny.py,{trained.last.name}",
    ]
    assert [each["model"] for each in table["models"]] == models
    assert [each["inputs"] for each in table["models"]] == [[[1, 3, 64, 64]]] * 3
    assert first["flops"] == {"weights": 2 * 4 * 27 * 62 * 62, "products": 0}
    assert first["pipeline"] is None
    for each in (second, third):
        assert len(each["forward"]["seconds"]) == len(each["pipeline"]["seconds"]) == 2
        assert each["flops"]["weights"] > 1e6
        assert each["memory_bytes"] is None
    assert all(f"\n{each['name']} " in said.out for each in table["models"])
    assert not list(Path().glob(".table*"))


def test_memory_is_measured_in_another_process(
    net: Path, tiny: Path, trained: TrainResult, capsys: pytest.CaptureFixture[str]
) -> None:
    size = (64, 64)  # every setting reaches the process
    (row,) = benchmark([f"{tiny},{trained.last}"], size=size, score=0.5, rounds=1, warmup=0).rows
    assert "Measuring the memory of tiny.py" in capsys.readouterr().err
    assert row.memory is not None
    assert 1e6 < row.memory < 1e9


def test_flops_are_those_of_one_image_for_any_batch(tiny: Path) -> None:
    def flops(batch: int) -> int:
        settings = {"size": (64, 64), "rounds": 1, "warmup": 0, "thread_count": 1, "memory": False}
        (row,) = benchmark([str(tiny)], batch=batch, **settings).rows
        assert row.counts.flops is not None
        assert row.memory is None
        return row.counts.flops.weights

    assert flops(1) == flops(3) > 0


def test_the_number_of_threads_is_restored(net: Path) -> None:
    before = torch.get_num_threads()
    benchmark([str(net)], rounds=1, warmup=0, thread_count=before + 1, memory=False)
    assert torch.get_num_threads() == before


def test_memory_that_cannot_be_measured_is_none(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_process, "_CHILD", "raise MemoryError('too large')")
    (row,) = benchmark([str(net)], rounds=1, warmup=0).rows
    assert row.memory is None
    assert "  not measured: MemoryError: too large\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["nett.onnx"], "There is no model nett.onnx. Did you mean 'net.onnx'?"),
        (["net.xml"], "There is no model net.xml."),
        (["nope.py"], "There is no config nope.py."),
        (["{tiny},nope.pth"], "There is no checkpoint nope.pth."),
        (["weights.pth"], "has weights alone. Name the config that they belong to: CONFIG,weights.pth"),
        (
            ["net.tflite"],
            "Expected an .onnx file, an .xml file of OpenVINO, a config, or CONFIG,WEIGHTS; found",
        ),
        (["net.onnx", "--size", "32", "32"], "Expected --size 64 64 for net.onnx (input 'x', 1x3x64x64)"),
        (["net.onnx", "--batch", "2"], "Expected --batch 1 for net.onnx (input 'x', 1x3x64x64)"),
        (["net.onnx", "--rounds", "0"], "Expected --rounds of 1 or more, found 0."),
        (["net.onnx", "--size", "0", "64"], "Expected --size of 1 or more, found 0."),
        (["net.onnx", "--out", "table.txt"], "expected a name ending in .json in a folder that exists"),
        (["net.onnx", "--out", "none/table.json"], "expected a name ending in .json in a folder that exists"),
        (["net.onnx", "--image", "nope.jpg"], "There is no image nope.jpg."),
        (["net.onnx", "--image", "net.onnx"], "net.onnx is not an image that can be read."),
    ],
)
def test_wrong_input_is_one_message(
    net: Path, tiny: Path, command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["benchmark", *(word.format(tiny=tiny) for word in command)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["benchmark", str(net), "--device", "cuda"]) == 2
    assert "--device cuda needs a GPU" in capsys.readouterr().err
