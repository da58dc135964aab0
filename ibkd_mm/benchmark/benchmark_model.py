"""A model that is ready to be timed, whatever runtime runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]
Image = np.ndarray  # (H, W, 3) bytes in BGR


class Flops(NamedTuple):
    """Floating-point operations: two for each multiply-add; element-wise operations do not count.

    `weights` are those of convolutions and of products with a weight, which published figures count;
    `products` are those of two activations, as in attention.
    """

    weights: int
    products: int


class Counts(NamedTuple):
    """Number of parameters, size of the weights in bytes, and FLOPs of one forward pass if they are known."""

    parameters: int
    size: int
    flops: Flops | None


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings that are the same for all models of a benchmark; see `ibkd_mm.apis.benchmark`."""

    size: tuple[int, int] | None = None  # height and width; None for each model's own, as for the score
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    score: float | None = None


@dataclass(frozen=True)
class BenchmarkModel:
    """A loaded model.

    `forward` runs the network alone on `batch` images; on a GPU it waits for the end. `pipeline` predicts one
    image in memory, with masks in its size, and returns the number of instances; None if only the network can
    be run. `count` runs the network if that is necessary.
    """

    runtime: str
    inputs: Sequence[Shape]
    batch: int
    forward: Callable[[], object]
    pipeline: Callable[[], int] | None
    count: Callable[[], Counts]


def unique_names(models: Sequence[str]) -> list[str]:
    """Name each model by the end of its path, with as many folders as make the name unique."""
    depth, names = 1, [_path_end(model, 1) for model in models]
    while any(names.count(name) > 1 for name in names) and depth < max(map(len, models)):
        depth += 1
        longer = [_path_end(model, depth) for model in models]
        names = [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: index + 1].count(name)})"
        for index, name in enumerate(names)
    ]


def _path_end(model: str, depth: int) -> str:
    return ",".join("/".join(path.split("/")[-depth:]) for path in model.split(","))
