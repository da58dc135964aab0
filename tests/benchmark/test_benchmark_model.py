"""Names of the table."""

import pytest

from ibkd_mm.benchmark.benchmark_model import unique_names


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["runs/a/net.onnx", "other.onnx"], ["net.onnx", "other.onnx"]),
        (["runs/a/net.onnx", "runs/b/net.onnx", "c.xml"], ["a/net.onnx", "b/net.onnx", "c.xml"]),
        (["runs/a/last/net.onnx", "runs/b/last/net.onnx"], ["a/last/net.onnx", "b/last/net.onnx"]),
        (["net.onnx", "net.onnx", "net.onnx"], ["net.onnx (1)", "net.onnx (2)", "net.onnx (3)"]),
        (["net.onnx", "./net.onnx"], ["net.onnx", "./net.onnx"]),
        (["c/n.py,w/1.pth", "c/n.py,w/2.pth", "c/n.py"], ["n.py,1.pth", "n.py,2.pth", "n.py"]),
        (["c/n.py,v/1.pth", "c/n.py,w/1.pth"], ["c/n.py,v/1.pth", "c/n.py,w/1.pth"]),
        (["ibkd_mm::yolov10/n.py"], ["n.py"]),
    ],
)
def test_names_are_short_and_unique(models: list[str], names: list[str]) -> None:
    assert unique_names(models) == names
