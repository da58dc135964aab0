"""Timing several things beside each other: in rounds, so that what disturbs the machine hits all alike."""

import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Task = Callable[[], object]


class Ratio(NamedTuple):
    """How many times as long one thing took as another in the same round: the median and the quartiles."""

    median: float
    low: float
    high: float


class Timing(NamedTuple):
    """What a task took, in seconds."""

    median: float
    p95: float


def take_turns(
    tasks: Sequence[Task],
    rounds: int,
    *,
    warmup: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    after_round: Callable[[int], None] = lambda done: None,
) -> list[list[float]]:
    """Run every task once a round, in an order drawn anew for each.

    A fixed order would have a task always meet the caches that the same other one left behind.

    Args:
        tasks: what to time.
        rounds: how many are counted.
        warmup: how many run before these.
        seed: of the orders.
        clock: gives seconds.
        after_round: is told how many of all rounds are done, those before the counted ones too.

    Returns:
        Seconds, by task and round.
    """
    draw, seconds = random.Random(seed), [[0.0] * rounds for _ in tasks]
    for turn in range(-warmup, rounds):
        for place in draw.sample(range(len(tasks)), len(tasks)):
            began = clock()
            tasks[place]()
            took = clock() - began
            if turn >= 0:
                seconds[place][turn] = took
        after_round(turn + warmup + 1)
    return seconds


def timing(seconds: Sequence[float]) -> Timing:
    """Sum up what a task took; between two rounds p95 is interpolated."""
    median, p95 = np.quantile(seconds, [0.5, 0.95])
    return Timing(float(median), float(p95))


def ratio(seconds: Sequence[float], beside: Sequence[float]) -> Ratio:
    """Compare two tasks round by round: a slow moment of the machine, in both, does not count."""
    low, median, high = np.quantile(np.divide(seconds, beside), [0.25, 0.5, 0.75])
    return Ratio(float(median), float(low), float(high))
