from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config

from ibkd_mm.quickstart import time_budget as pace
from ibkd_mm.quickstart.plan import Amounts
from ibkd_mm.quickstart.time_budget import Pace, fewest, fit

SHAPES = Amounts(200, 1800, 300)


@pytest.fixture(autouse=True)
def _numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_STARTING", 10.0), ("_DRAWING", 20.0), ("_SCORING", 1.0), ("DEVICE", "cpu")):
        monkeypatch.setattr(pace, name, value)


def test_what_the_other_stages_leave_is_for_both_students() -> None:
    speed = Pace(step=0.8, teacher_step=0.0, seen_by_teacher=0.05, seen_by_student=0.1)
    lengths = fit(600, speed, SHAPES, can_be_cut=False)
    # cache 2000 * .05, judging 300 * .1, report 2 * 30 + 300 * .05 + 20, beginning 10
    assert lengths.steps == int((600 - 100 - 30 - 95 - 10) / 0.8)
    assert lengths.amounts == SHAPES
    assert lengths.seconds["baseline"] == lengths.seconds["distilled"]
    # the two run beside each other, and all of it is what there was, to a step
    parts = ("cache", "distilled", "report")
    assert 600 - 0.8 <= sum(lengths.seconds[part] for part in parts) <= 600


def test_on_a_gpu_they_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Pace(step=0.8, teacher_step=0.0, seen_by_teacher=0.05, seen_by_student=0.1)
    monkeypatch.setattr(pace, "DEVICE", "cuda")
    parts = ("cache", "baseline", "distilled", "report")
    lengths = fit(600, speed, SHAPES, can_be_cut=False)
    assert 600 - 0.8 <= sum(lengths.seconds[part] for part in parts) <= 600


def test_a_teacher_that_is_trained_has_its_share() -> None:
    speed = Pace(step=0.5, teacher_step=1.0, seen_by_teacher=0.1, seen_by_student=0.1)
    lengths = fit(600, speed, Amounts(100, 0, 50), can_be_cut=True)
    # judging 5, report 10 + 5 + 20, cache 10, beginning 10: 540 s; the teacher begins and is judged in 15
    assert lengths.teacher_steps == int(0.4 * 540 - 15)
    assert lengths.seconds["teacher"] == 15 + lengths.teacher_steps
    assert lengths.steps == int((540 - 15 - lengths.teacher_steps) / 0.5)


def test_own_pictures_for_which_there_is_no_time_are_left_out() -> None:
    speed = Pace(step=0.5, teacher_step=0.0, seen_by_teacher=1.0, seen_by_student=0.1)
    many = fit(600, speed, Amounts(1000, 1000, 500), can_be_cut=True)
    assert many.amounts == Amounts(150, 0, int(0.2 * 600 / 2.3))  # labelled ones first
    some = fit(600, speed, Amounts(100, 1000, 5), can_be_cut=True)
    assert some.amounts == Amounts(100, 50, 5)


def test_however_little_time_there_is_something_is_done() -> None:
    speed = Pace(step=0.5, teacher_step=1.0, seen_by_teacher=1.0, seen_by_student=0.1)
    lengths = fit(-5, speed, Amounts(15, 10, 30), can_be_cut=True)
    assert (lengths.steps, lengths.teacher_steps, lengths.amounts) == (2, 2, Amounts(15, 5, 20))
    assert fewest(Amounts(15, 10, 30)) == Amounts(15, 0, 20)
    assert fewest(Amounts(40, 10, 5)) == fit(-5, speed, Amounts(40, 10, 5), can_be_cut=True).amounts


@pytest.mark.parametrize(("device", "step"), [("cpu", 1.2 + 0.2), ("cuda", 0.3), ("cuda, slow", 0.5)])
def test_on_a_gpu_loaders_read_beside_the_steps(
    monkeypatch: pytest.MonkeyPatch, device: str, step: float
) -> None:
    took = iter([3 * 1.2, 3 * (0.5 if "slow" in device else 0.2)])

    def seconds(what: Callable[[], Any]) -> float:
        what()
        return next(took)

    learned: list[Any] = []
    model = SimpleNamespace(train_step=lambda batch, _: learned.append(batch["at"]))
    model.to = model.train = lambda *_, **__: model
    monkeypatch.setattr(pace, "DEVICE", device[:4].rstrip(","))
    monkeypatch.setattr(pace, "DATASETS", SimpleNamespace(build=lambda _: [{"at": at} for at in range(5)]))
    monkeypatch.setattr(pace, "MODELS", SimpleNamespace(build=lambda _: model))
    monkeypatch.setattr(pace, "build_optim_wrapper", lambda *_: None)
    monkeypatch.setattr(pace, "_seconds", seconds)
    loader = {"dataset": None, "batch_size": 2, "num_workers": 4}
    config = Config({"train_dataloader": loader, "model": None, "optim_wrapper": {}})
    assert pace._seconds_a_step(config) == pytest.approx(step)
    assert learned == [[0, 1], [2, 3], [4, 0], [1, 2]]  # the first is not timed
