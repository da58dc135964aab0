"""Time the networks and the whole pipelines of several models in the same rounds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel
from ibkd_mm.benchmark.rounds import Ratio, Timing, compare_times, run_rounds, summarise_times
from ibkd_mm.utils.progress import Progress


@dataclass(frozen=True)
class Measurement:
    """Times of a task in each round; `ratio` is that to the first model's times in the same rounds."""

    seconds: list[float]
    timing: Timing
    ratio: Ratio
    images: int
    """Images in a run."""

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
    models: Sequence[BenchmarkModel],
    rounds: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
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
