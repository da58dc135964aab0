from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config

from ibkd_mm.quickstart import time_budget
from ibkd_mm.quickstart.plan import ImageCounts
from ibkd_mm.quickstart.time_budget import Pace, divide_time, minimum_images

SHAPES = ImageCounts(200, 1800, 300)


@pytest.fixture(autouse=True)
def _numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("_START_SECONDS", 10.0),
        ("_FIGURES_SECONDS", 20.0),
        ("_SCORING", 1.0),
        ("DEVICE", "cpu"),
    ):
        monkeypatch.setattr(time_budget, name, value)


def test_both_students_get_the_time_that_other_stages_leave() -> None:
    speed = Pace(step=0.8, teacher_step=0.0, teacher_image=0.05, student_image=0.1)
    lengths = divide_time(600, speed, SHAPES, can_be_reduced=False)
    # cache 2000 * .05, validation 300 * .1, report 2 * 30 + 300 * .05 + 20, start 10
    assert lengths.steps == int((600 - 100 - 30 - 95 - 10) / 0.8)
    assert lengths.images == SHAPES
    assert lengths.seconds["baseline"] == lengths.seconds["distilled"]
    # the two run side by side, and the sum is the available time, up to a step
    parts = ("cache", "distilled", "report")
    assert 600 - 0.8 <= sum(lengths.seconds[part] for part in parts) <= 600


def test_on_a_gpu_the_students_train_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Pace(step=0.8, teacher_step=0.0, teacher_image=0.05, student_image=0.1)
    monkeypatch.setattr(time_budget, "DEVICE", "cuda")
    parts = ("cache", "baseline", "distilled", "report")
    lengths = divide_time(600, speed, SHAPES, can_be_reduced=False)
    assert 600 - 0.8 <= sum(lengths.seconds[part] for part in parts) <= 600


def test_a_teacher_that_is_trained_gets_its_share() -> None:
    speed = Pace(step=0.5, teacher_step=1.0, teacher_image=0.1, student_image=0.1)
    lengths = divide_time(600, speed, ImageCounts(100, 0, 50), can_be_reduced=True)
    # validation 5, report 10 + 5 + 20, cache 10, start 10: 540 s; the teacher starts and is validated in 15
    assert lengths.teacher_steps == int(0.4 * 540 - 15)
    assert lengths.seconds["teacher"] == 15 + lengths.teacher_steps
    assert lengths.steps == int((540 - 15 - lengths.teacher_steps) / 0.5)


def test_user_images_for_which_there_is_no_time_are_left_out() -> None:
    speed = Pace(step=0.5, teacher_step=0.0, teacher_image=1.0, student_image=0.1)
    many = divide_time(600, speed, ImageCounts(1000, 1000, 500), can_be_reduced=True)
    assert many.images == ImageCounts(150, 0, int(0.2 * 600 / 2.3))  # labelled ones first
    some = divide_time(600, speed, ImageCounts(100, 1000, 5), can_be_reduced=True)
    assert some.images == ImageCounts(100, 50, 5)


def test_without_time_the_minimum_is_done() -> None:
    speed = Pace(step=0.5, teacher_step=1.0, teacher_image=1.0, student_image=0.1)
    lengths = divide_time(-5, speed, ImageCounts(15, 10, 30), can_be_reduced=True)
    assert (lengths.steps, lengths.teacher_steps, lengths.images) == (2, 2, ImageCounts(15, 5, 20))
    assert minimum_images(ImageCounts(15, 10, 30)) == ImageCounts(15, 0, 20)
    assert (
        minimum_images(ImageCounts(40, 10, 5))
        == divide_time(-5, speed, ImageCounts(40, 10, 5), can_be_reduced=True).images
    )


@pytest.mark.parametrize(("device", "step"), [("cpu", 1.2 + 0.2), ("cuda", 0.3), ("cuda, slow", 0.5)])
def test_on_a_gpu_loading_overlaps_with_training(
    monkeypatch: pytest.MonkeyPatch, device: str, step: float
) -> None:
    took = iter([3 * 1.2, 3 * (0.5 if "slow" in device else 0.2)])

    def measure_time(work: Callable[[], Any]) -> float:
        work()
        return next(took)

    learned: list[Any] = []
    samples = [{"at": at} for at in range(5)]
    model = SimpleNamespace(train_step=lambda batch, _: learned.append(batch["at"]))
    model.to = model.train = lambda *_, **__: model
    monkeypatch.setattr(time_budget, "DEVICE", device[:4].rstrip(","))
    monkeypatch.setattr(time_budget, "DATASETS", SimpleNamespace(build=lambda _: samples))
    monkeypatch.setattr(time_budget, "MODELS", SimpleNamespace(build=lambda _: model))
    monkeypatch.setattr(time_budget, "build_optim_wrapper", lambda *_: None)
    monkeypatch.setattr(time_budget, "_time", measure_time)
    loader = {"dataset": None, "batch_size": 2, "num_workers": 4}
    config = Config({"train_dataloader": loader, "model": None, "optim_wrapper": {}})
    assert time_budget._time_step(config) == pytest.approx(step)
    assert learned == [[0, 1], [2, 3], [4, 0], [1, 2]]  # the first is not timed
