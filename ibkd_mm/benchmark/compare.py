"""Timing models beside each other: their networks and their whole pipelines, all in the same rounds."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ibkd_mm.benchmark.rounds import Ratio, Timing, ratio, take_turns, timing
from ibkd_mm.benchmark.subject import Subject


@dataclass(frozen=True)
class Measured:
    """What a task took.

    Args:
        seconds: of each round.
        timing: their sum-up.
        ratio: to the first model's, in the same round.
        pictures: in a run.
    """

    seconds: list[float]
    timing: Timing
    ratio: Ratio
    pictures: int

    @property
    def per_second(self) -> float:
        """Pictures a second, one run after the other."""
        return self.pictures / self.timing.median

    def plain(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "seconds": self.seconds,
            "median_ms": self.timing.median * 1e3,
            "p95_ms": self.timing.p95 * 1e3,
            "pictures_per_second": self.per_second,
            "ratio_to_first": self.ratio._asdict(),
        }


def compare(
    subjects: Sequence[Subject], rounds: int, warmup: int, clock: Callable[[], float] = time.perf_counter
) -> list[tuple[Measured, Measured | None]]:
    """Time each model's network, and its whole pipeline where it has one.

    Args:
        subjects: the models. Ratios are to the first, of pipelines to the first that has one.
        rounds: how many are counted.
        warmup: how many run before these.
        clock: gives seconds.
    """
    whole = [subject for subject in subjects if subject.pipeline is not None]
    tasks = [*(each.forward for each in subjects), *(each.pipeline for each in whole if each.pipeline)]
    told = _Told(rounds + warmup, len(tasks))
    seconds = take_turns(tasks, rounds, warmup=warmup, clock=clock, after_round=told)
    networks = [
        _measured(took, seconds[0], subject.batch) for took, subject in zip(seconds, subjects, strict=False)
    ]
    pipelines = {
        id(subject): _measured(took, seconds[len(subjects)], 1)
        for took, subject in zip(seconds[len(subjects) :], whole, strict=True)
    }
    return [(network, pipelines.get(id(each))) for network, each in zip(networks, subjects, strict=True)]


def _measured(seconds: list[float], beside: list[float], pictures: int) -> Measured:
    return Measured(seconds, timing(seconds), ratio(seconds, beside), pictures)


class _Told:
    """Tells on stderr how far the rounds have come: on a terminal on one line, elsewhere at each quarter."""

    def __init__(self, rounds: int, tasks: int) -> None:
        self.rounds, self.began, self.line = rounds, time.monotonic(), sys.stderr.isatty()
        print(f"Timing: {rounds} rounds of {tasks} runs", file=sys.stderr, flush=True)

    def __call__(self, done: int) -> None:
        left = (time.monotonic() - self.began) / done * (self.rounds - done)
        text = f"  round {done} of {self.rounds}, {left:.0f} s left"
        if self.line:
            end = "\n" if done == self.rounds else ""
            print(f"\r{text}\x1b[K", end=end, file=sys.stderr, flush=True)
        elif 4 * done // self.rounds > 4 * (done - 1) // self.rounds:
            print(text, file=sys.stderr, flush=True)
