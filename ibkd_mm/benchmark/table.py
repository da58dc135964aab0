"""Results of a benchmark, as aligned text and as plain values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ibkd_mm.benchmark.benchmark_model import Counts, Shape
from ibkd_mm.benchmark.compare import Measurement

_MODEL_HEADER = ["model", "runtime", "input", "parameters", "GFLOPs", "weights MB", "memory MB"]
_TIME_HEADER = ["model", "median ms", "p95 ms", "images/s", "ratio", "(quartiles)"]


@dataclass(frozen=True)
class Row:
    """Results of one model, which the user named `model`.

    `counts` has the FLOPs for one image; `memory` is the growth of a process that runs the model, in bytes;
    `pipeline`, from the image to masks in its size, is None if only the network can be run.
    """

    name: str
    model: str
    runtime: str
    inputs: Sequence[Shape]
    counts: Counts
    memory: int | None
    forward: Measurement
    pipeline: Measurement | None
    instances: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can store."""
        return {
            "name": self.name,
            "model": self.model,
            "runtime": self.runtime,
            "inputs": [list(shape) for shape in self.inputs],
            "parameters": self.counts.parameters,
            "flops": self.counts.flops and self.counts.flops._asdict(),
            "weights_bytes": self.counts.size,
            "memory_bytes": self.memory,
            "forward": self.forward.to_dict(),
            "pipeline": self.pipeline and self.pipeline.to_dict(),
            "instances": self.instances,
        }


@dataclass(frozen=True)
class Environment:
    """Hardware, versions and settings of a benchmark."""

    hardware: str
    threads: int
    device: str
    rounds: int
    warmup: int
    image: tuple[int, int]
    versions: dict[str, str]


@dataclass(frozen=True)
class BenchmarkTable:
    """Results of all models of a benchmark."""

    rows: Sequence[Row]
    environment: Environment

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can store."""
        models = [row.to_dict() for row in self.rows]
        return {"format": 1, "environment": asdict(self.environment), "models": models}

    def __str__(self) -> str:
        used, (height, width) = self.environment, self.environment.image
        head = f"{used.hardware}, {used.threads} threads, {used.rounds} rounds; an image of {width}x{height}"
        parts = [head, "", align_columns([_MODEL_HEADER, *map(_model_cells, self.rows)], left=3)]
        forward = [_time_cells(row, row.forward) for row in self.rows]
        parts += ["", "forward", align_columns([_TIME_HEADER, *forward])]
        pipeline = [
            [*_time_cells(row, row.pipeline), str(row.instances)] for row in self.rows if row.pipeline
        ]
        if pipeline:
            parts += ["", "whole pipeline, from the image to masks of its size"]
            parts += [align_columns([[*_TIME_HEADER, "instances"], *pipeline])]
        return "\n".join(parts)


def align_columns(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Align the first `left` columns to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _model_cells(row: Row) -> list[str]:
    return [
        row.name,
        row.runtime,
        ", ".join("x".join(map(str, shape)) for shape in row.inputs),
        f"{row.counts.parameters:,}",
        "-" if row.counts.flops is None else f"{row.counts.flops.weights / 1e9:.2f}",
        f"{row.counts.size / 1e6:.1f}",
        "-" if row.memory is None else f"{row.memory / 1e6:.0f}",
    ]


def _time_cells(row: Row, measured: Measurement) -> list[str]:
    median, p95 = (f"{seconds * 1e3:.2f}" for seconds in measured.timing)
    ratio = measured.ratio
    quartiles = f"({ratio.low:.2f}-{ratio.high:.2f})"
    return [row.name, median, p95, f"{measured.images_per_second:.1f}", f"{ratio.median:.2f}", quartiles]
