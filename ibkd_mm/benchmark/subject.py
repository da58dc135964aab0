"""A model as a benchmark sees it, whatever runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ibkd_mm.benchmark.flops import Flops

Shape = tuple[int, ...]
Picture = np.ndarray
"""(height, width, 3), bytes, in the order blue, green, red."""


class Counts(NamedTuple):
    """What a model holds and does."""

    parameters: int
    size: int
    """Of the weights, in bytes."""
    flops: Flops | None
    """Of one forward pass; None where they cannot be told."""


@dataclass(frozen=True)
class Settings:
    """What is the same for all models of a benchmark.

    Args:
        size: height and width of the network's input; None for each model's own.
        batch: pictures in a forward pass.
        threads: how many each runtime has.
        device: 'cpu' or 'cuda'.
        score: the least score of an instance in the whole pipeline; None for each model's own.
    """

    size: tuple[int, int] | None = None
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    score: float | None = None


@dataclass(frozen=True)
class Subject:
    """A model that was read and is ready to run.

    Args:
        runtime: what runs it.
        inputs: shapes of what goes into `forward`.
        batch: pictures in these.
        forward: runs the network alone; on a GPU it waits for the end.
        pipeline: finds the instances of one picture in memory, masks at its size, and returns how many; None
            where only the network is there.
        count: counts what it holds and does; runs the network where that is what it takes.
    """

    runtime: str
    inputs: Sequence[Shape]
    batch: int
    forward: Callable[[], object]
    pipeline: Callable[[], int] | None
    count: Callable[[], Counts]


def unique_names(models: Sequence[str]) -> list[str]:
    """Name each by the end of its path, and by as many folders as tell it from the others."""
    depth, names = 1, [_end(model, 1) for model in models]
    while any(names.count(name) > 1 for name in names) and depth < max(map(len, models)):
        depth += 1
        longer = [_end(model, depth) for model in models]
        names = [more if names.count(name) > 1 else name for name, more in zip(names, longer, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _end(model: str, depth: int) -> str:
    """Take the last parts of a path, of each where there are several."""
    return ",".join("/".join(path.split("/")[-depth:]) for path in model.split(","))
