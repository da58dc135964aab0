"""Rounds timed by a clock that the tasks advance."""

from collections.abc import Callable

import pytest

from ibkd_mm.benchmark.compare import compare_times, run_rounds, summarise_times


class Clock:
    """Each task takes its own time, and in some rounds all take longer."""

    def __init__(self, slow: dict[int, float] | None = None) -> None:
        self.now, self.order, self.slow = 0.0, [], slow or {}

    def __call__(self) -> float:
        return self.now

    def task(self, name: str, seconds: float, tasks: int) -> Callable[[], None]:
        def run() -> None:
            turn = len(self.order) // tasks
            self.order.append(name)
            self.now += seconds * self.slow.get(turn, 1.0)

        return run


def test_every_round_runs_every_task_once_in_another_order() -> None:
    clock = Clock()
    tasks = [clock.task(name, 1.0, 3) for name in "abc"]
    run_rounds(tasks, 40, warmup=10, clock=clock)
    rounds = ["".join(clock.order[start : start + 3]) for start in range(0, len(clock.order), 3)]
    assert len(rounds) == 50
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) == 6
    again = Clock()
    run_rounds([again.task(name, 1.0, 3) for name in "abc"], 40, warmup=10, clock=again)
    assert again.order == clock.order


def test_seconds_are_each_tasks_own_and_warming_up_is_left_out() -> None:
    clock = Clock(slow={0: 100.0, 1: 100.0, 3: 7.0})
    done: list[int] = []
    tasks = [clock.task("a", 1.0, 2), clock.task("b", 3.0, 2)]
    seconds = run_rounds(tasks, 3, warmup=2, clock=clock, after_round=done.append)
    assert seconds == [[1.0, 7.0, 1.0], [3.0, 21.0, 3.0]]
    assert done == [1, 2, 3, 4, 5]


def test_median_and_95th_percentile_by_hand() -> None:
    assert summarise_times([5.0]) == (5.0, 5.0)
    assert summarise_times([4.0, 1.0, 3.0, 2.0]) == pytest.approx(
        (2.5, 3.85)
    )  # 0.95 * 3 = 2.85 places behind the 1
    assert summarise_times([float(second) for second in range(101)]) == pytest.approx((50.0, 95.0))


def test_ratios_are_of_the_same_round() -> None:
    """A slow moment that hits both changes nothing; medians by themselves would say 2 / 1 of other rounds."""
    assert compare_times([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == (2.0, 2.0, 2.0)
    assert compare_times([1.0, 4.0, 3.0, 2.0, 5.0], [1.0] * 5) == (3.0, 2.0, 4.0)
    assert compare_times([1.0, 10.0, 3.0], [10.0, 1.0, 3.0]).median == 1.0
