"""What a benchmark found, as text in columns and as plain values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ibkd_mm.benchmark.compare import Measured
from ibkd_mm.benchmark.subject import Counts, Shape


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Args:
        name: unique in the table.
        model: as it was given.
        runtime: what ran it.
        inputs: shapes.
        counts: what it holds, and does for one picture.
        memory: the growth of a process that reads and runs it, in bytes.
        forward: the network alone.
        pipeline: from a picture to masks of its size, if it can.
        instances: found in the picture.
    """

    name: str
    model: str
    runtime: str
    inputs: Sequence[Shape]
    counts: Counts
    memory: int | None
    forward: Measured
    pipeline: Measured | None
    instances: int | None

    def plain(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "name": self.name,
            "model": self.model,
            "runtime": self.runtime,
            "inputs": [list(shape) for shape in self.inputs],
            "parameters": self.counts.parameters,
            "flops": self.counts.flops and self.counts.flops._asdict(),
            "weights_bytes": self.counts.size,
            "memory_bytes": self.memory,
            "forward": self.forward.plain(),
            "pipeline": self.pipeline and self.pipeline.plain(),
            "instances": self.instances,
        }


@dataclass(frozen=True)
class Circumstances:
    """Under what the figures were taken."""

    hardware: str
    threads: int
    device: str
    rounds: int
    warmup: int
    picture: tuple[int, int]
    versions: dict[str, str]


@dataclass(frozen=True)
class Table:
    """All models of a benchmark."""

    rows: Sequence[Row]
    circumstances: Circumstances

    def plain(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "format": 1,
            "circumstances": asdict(self.circumstances),
            "models": [row.plain() for row in self.rows],
        }

    def __str__(self) -> str:
        about, (height, width) = self.circumstances, self.circumstances.picture
        head = (
            f"{about.hardware}, {about.threads} threads, {about.rounds} rounds; a picture of {width}x{height}"
        )
        parts = [head, "", _aligned([_WHAT, *map(_what, self.rows)])]
        parts += ["", "forward", _aligned([_HOW_FAST, *(_how_fast(row, row.forward) for row in self.rows)])]
        whole = [[*_how_fast(row, row.pipeline), str(row.instances)] for row in self.rows if row.pipeline]
        if whole:
            parts += ["", "whole pipeline, from the picture to masks of its size"]
            parts += [_aligned([[*_HOW_FAST, "instances"], *whole])]
        return "\n".join(parts)


_WHAT = ["model", "runtime", "input", "parameters", "GFLOPs", "weights MB", "memory MB"]
_HOW_FAST = ["model", "median ms", "p95 ms", "pictures/s", "ratio", "(quartiles)"]


def _what(row: Row) -> list[str]:
    return [
        row.name,
        row.runtime,
        ", ".join("x".join(map(str, shape)) for shape in row.inputs),
        f"{row.counts.parameters:,}",
        "-" if row.counts.flops is None else f"{row.counts.flops.weights / 1e9:.2f}",
        f"{row.counts.size / 1e6:.1f}",
        "-" if row.memory is None else f"{row.memory / 1e6:.0f}",
    ]


def _how_fast(row: Row, measured: Measured) -> list[str]:
    median, p95 = (f"{seconds * 1e3:.2f}" for seconds in measured.timing)
    middle, low, high = measured.ratio
    return [row.name, median, p95, f"{measured.per_second:.1f}", f"{middle:.2f}", f"({low:.2f}-{high:.2f})"]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Put text to the left and figures to the right of their columns."""
    columns = list(zip(*rows, strict=True))
    text = [column[0] in ("model", "runtime", "input") for column in columns]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, text, strict=True)
        ).rstrip()
        for row in rows
    )
