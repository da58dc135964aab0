"""Time several tasks in rounds, so that a disturbance of the machine affects all of them alike."""

import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Task = Callable[[], object]


class Ratio(NamedTuple):
    """Ratio of two tasks' times in the same round: median and quartiles."""

    median: float
    low: float
    high: float


class Timing(NamedTuple):
    """Median and 95th percentile of a task's times, in seconds."""

    median: float
    p95: float


def run_rounds(
    tasks: Sequence[Task],
    rounds: int,
    *,
    warmup: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    after_round: Callable[[int], None] = lambda done: None,
) -> list[list[float]]:
    """Run every task once per round, each round in a new random order.

    In a fixed order a task would always meet the caches that the same other task left.

    Args:
        tasks: tasks to time.
        rounds: number of timed rounds.
        warmup: number of rounds before these that are not timed.
        seed: seed of the orders.
        clock: returns seconds.
        after_round: called with the number of finished rounds, warm-up included.

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
