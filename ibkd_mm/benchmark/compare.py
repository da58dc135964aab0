"""Time several models in the same rounds, so that a disturbance of the machine affects all of them alike."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel
from ibkd_mm.utils.progress import Progress


class Ratio(NamedTuple):
    """Ratio of two tasks' times in the same round: median and quartiles."""

    median: float
    low: float
    high: float


class Timing(NamedTuple):
    """Median and 95th percentile of a task's times, in seconds."""

    median: float
    p95: float


@dataclass(frozen=True)
class Measurement:
    """Times of a task in each round; `ratio` is that to the first model's times in the same rounds."""

    seconds: list[float]
    timing: Timing
    ratio: Ratio
    images: int  # in a run

    @property
    def images_per_second(self) -> float:
        """Throughput of runs one after the other."""
        return self.images / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can store."""
        return {
            "seconds": self.seconds,
            "median_ms": self.timing.median * 1e3,
            "p95_ms": self.timing.p95 * 1e3,
            "images_per_second": self.images_per_second,
            "ratio_to_first": self.ratio._asdict(),
        }


def compare(
    models: Sequence[BenchmarkModel], rounds: int, warmup: int, clock: Callable[[], float] = time.perf_counter
) -> list[tuple[Measurement, Measurement | None]]:
    """Time each model's network, and its whole pipeline if it has one.

    Ratios are to the first model, those of pipelines to the first that has one. Warm-up rounds are not timed.
    """
    pipelines = {index: model.pipeline for index, model in enumerate(models) if model.pipeline is not None}
    tasks = [*(model.forward for model in models), *pipelines.values()]
    with Progress("Timing, rounds", rounds + warmup) as progress:
        seconds = run_rounds(tasks, rounds, warmup=warmup, clock=clock, after_round=progress.update)
    networks, whole = seconds[: len(models)], dict(zip(pipelines, seconds[len(models) :], strict=True))
    first = next(iter(whole.values()), [])
    return [
        (
            _measurement(network, networks[0], model.batch),
            _measurement(whole[index], first, 1) if index in whole else None,
        )
        for index, (model, network) in enumerate(zip(models, networks, strict=True))
    ]


def _measurement(seconds: list[float], first: list[float], images: int) -> Measurement:
    return Measurement(seconds, summarise_times(seconds), compare_times(seconds, first), images)


def run_rounds(
    tasks: Sequence[Callable[[], object]],
    rounds: int,
    *,
    warmup: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    after_round: Callable[[int], None] = lambda done: None,
) -> list[list[float]]:
    """Run every task once per round, each round in a new random order.

    In a fixed order a task would always meet the caches that the same other task left. Warm-up rounds are not
    timed, but count for `after_round`, which gets the number of finished rounds.

    Returns:
        Seconds by task and round.
    """
    order, seconds = random.Random(seed), [[0.0] * rounds for _ in tasks]
    for turn in range(-warmup, rounds):
        for index in order.sample(range(len(tasks)), len(tasks)):
            start = clock()
            tasks[index]()
            duration = clock() - start
            if turn >= 0:
                seconds[index][turn] = duration
        after_round(turn + warmup + 1)
    return seconds


def summarise_times(seconds: Sequence[float]) -> Timing:
    """Summarise the times of a task; p95 is interpolated."""
    median, p95 = np.quantile(seconds, [0.5, 0.95])
    return Timing(float(median), float(p95))


def compare_times(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Compare two tasks round by round: a slow moment that affects both cancels out."""
    low, median, high = np.quantile(np.divide(seconds, reference), [0.25, 0.5, 0.75])
    return Ratio(float(median), float(low), float(high))
