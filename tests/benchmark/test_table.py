"""The comparison of models, timed by a clock that they advance, and its table."""

import json

import pytest

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, Counts, Flops
from ibkd_mm.benchmark.compare import compare
from ibkd_mm.benchmark.table import BenchmarkTable, Environment, Row


class Time:
    now = 0.0

    def passes(self, seconds: float) -> int:
        self.now += seconds
        return 3


@pytest.fixture
def table() -> BenchmarkTable:
    time = Time()

    def model(runtime: str, batch: int, forward: float, pipeline: float | None) -> BenchmarkModel:
        return BenchmarkModel(
            runtime=runtime,
            inputs=[(batch, 3, 64, 96)],
            batch=batch,
            forward=lambda: time.passes(forward),
            pipeline=None if pipeline is None else lambda: time.passes(pipeline),
            count=lambda: Counts(0, 0, None),
        )

    models = [
        model("ONNX Runtime", 4, 0.25, None),
        model("OpenVINO", 1, 0.125, 0.5),
        model("PyTorch", 1, 1.0, 2.0),
    ]
    counts = [
        Counts(1_234_567, 5_000_000, Flops(9_953_702_400, 1)),
        Counts(10, 40, None),
        Counts(20, 80, Flops(0, 0)),
    ]
    rows = [
        Row(f"{name}.onnx", f"runs/{name}.onnx", each.runtime, each.inputs, count, memory, *measured, found)
        for name, each, count, memory, measured, found in zip(
            ("a", "other", "c"),
            models,
            counts,
            (123_456_789, None, 1),
            compare(models, 4, 1, clock=lambda: time.now),
            (None, 3, 3),
            strict=True,
        )
    ]
    about = Environment("A processor, 2 cores", 2, "cpu", 4, 1, (48, 64), {"torch": "2"})
    return BenchmarkTable(rows, about)


def test_networks_and_pipelines_are_compared_each_with_the_first_of_their_kind(table: BenchmarkTable) -> None:
    batch, fast, slow = table.rows
    assert [row.forward.timing.median for row in table.rows] == [0.25, 0.125, 1.0]
    assert [row.forward.images_per_second for row in table.rows] == [16.0, 8.0, 1.0]
    assert [row.forward.ratio.median for row in table.rows] == [1.0, 0.5, 4.0]
    assert batch.pipeline is None
    assert fast.pipeline is not None
    assert slow.pipeline is not None
    assert (fast.pipeline.ratio.median, slow.pipeline.ratio.median) == (1.0, 4.0)
    assert (fast.pipeline.images_per_second, slow.pipeline.images_per_second) == (2.0, 0.5)


def test_the_table_to_the_letter(table: BenchmarkTable) -> None:
    assert str(table) == (
        "A processor, 2 cores, 2 threads, 4 rounds; an image of 64x48\n"
        "\n"
        "model       runtime       input      parameters  GFLOPs  weights MB  memory MB\n"
        "a.onnx      ONNX Runtime  4x3x64x96   1,234,567    9.95         5.0        123\n"
        "other.onnx  OpenVINO      1x3x64x96          10       -         0.0          -\n"
        "c.onnx      PyTorch       1x3x64x96          20    0.00         0.0          0\n"
        "\n"
        "forward\n"
        "model       median ms   p95 ms  images/s  ratio  (quartiles)\n"
        "a.onnx         250.00   250.00      16.0   1.00  (1.00-1.00)\n"
        "other.onnx     125.00   125.00       8.0   0.50  (0.50-0.50)\n"
        "c.onnx        1000.00  1000.00       1.0   4.00  (4.00-4.00)\n"
        "\n"
        "whole pipeline, from the image to masks of its size\n"
        "model       median ms   p95 ms  images/s  ratio  (quartiles)  instances\n"
        "other.onnx     500.00   500.00       2.0   1.00  (1.00-1.00)          3\n"
        "c.onnx        2000.00  2000.00       0.5   4.00  (4.00-4.00)          3"
    )


def test_json_holds_all_that_was_timed(table: BenchmarkTable) -> None:
    found = json.loads(json.dumps(table.to_dict()))
    assert found["format"] == 1
    assert found["environment"] == {
        "hardware": "A processor, 2 cores",
        "threads": 2,
        "device": "cpu",
        "rounds": 4,
        "warmup": 1,
        "image": [48, 64],
        "versions": {"torch": "2"},
    }
    first, second, _ = found["models"]
    assert first == {
        "name": "a.onnx",
        "model": "runs/a.onnx",
        "runtime": "ONNX Runtime",
        "inputs": [[4, 3, 64, 96]],
        "parameters": 1_234_567,
        "flops": {"weights": 9_953_702_400, "products": 1},
        "weights_bytes": 5_000_000,
        "memory_bytes": 123_456_789,
        "forward": {
            "seconds": [0.25] * 4,
            "median_ms": 250.0,
            "p95_ms": 250.0,
            "images_per_second": 16.0,
            "ratio_to_first": {"median": 1.0, "low": 1.0, "high": 1.0},
        },
        "pipeline": None,
        "instances": None,
    }
    assert (second["flops"], second["pipeline"]["median_ms"], second["instances"]) == (None, 500.0, 3)
