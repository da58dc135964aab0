"""How fast this machine is at each part of a quickstart, and what that leaves time for."""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher
from ibkd_mm.engine.memory_format import to_memory_format
from ibkd_mm.engine.optim.param_groups import FEW_GROUPS
from ibkd_mm.quickstart.plan import Amounts, Lengths
from ibkd_mm.quickstart.recipe import Recipe
from ibkd_mm.utils.cores import usable_cores

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

_MIN_STEPS = 2
_STARTING, _DRAWING = 15.0, 25.0
"""Seconds for a training to begin, and for a report to time its models and draw its figures."""
_BESIDE = 1.2
"""What a step beside another training, with the teacher's part, takes to one by itself on as many cores."""
_SCORING = 1.5
"""What pictures take to be judged, to what they take to be seen."""
_TEACHER_SHARE, _CACHE_SHARE, _JUDGING_SHARE = 0.4, 0.25, 0.2
"""Of the time for trainings, and of all time: pictures for which that does not suffice are left out."""
_FEWEST = 20
"""So many to learn from and to judge by are kept however little time there is: of fewer nothing is seen."""


@dataclass(frozen=True)
class Pace:
    """Seconds for one of each.

    Args:
        step: of both students.
        teacher_step: of a teacher's training, 0 where there is none.
        seen_by_teacher: a picture.
        seen_by_student: a picture.
    """

    step: float
    teacher_step: float
    seen_by_teacher: float
    seen_by_student: float


def own_threads() -> int:
    """Threads of a student's training: on CPUs the two run beside each other, on a GPU one by one."""
    return usable_cores() if DEVICE == "cuda" else max(1, usable_cores() // 2)


def measure(recipe: Recipe) -> Pace:
    """Time some of everything on real data."""
    init_default_scope("mmdet")
    threads = own_threads()
    both = 2.0 if DEVICE == "cuda" else max(1.0, 2 * threads / usable_cores())
    with _threads(threads):
        step = _seconds_a_step(recipe.baseline) * both * _BESIDE
        student = MODELS.build(recipe.baseline.model).to(DEVICE).eval()
        seen = _seconds_a_picture(
            lambda inputs, samples: student(inputs, samples, mode="predict"),
            student.data_preprocessor,
            recipe.baseline,
        )
    teacher = _teacher(recipe)
    preprocessor = student.data_preprocessor
    by_teacher = _seconds_a_picture(
        FrozenTeacher(teacher, preprocessor).predict, preprocessor, recipe.baseline
    )
    teacher_step = _seconds_a_step(recipe.teacher) if recipe.teacher else 0.0
    return Pace(step, teacher_step, by_teacher, seen)


def _teacher(recipe: Recipe) -> Any:
    """Build it; one that is still to be trained takes as long as it is."""
    if recipe.teacher:
        return MODELS.build(recipe.teacher.model).to(DEVICE).eval()
    model = recipe.distilled.model
    return build_teacher(model.teacher, model.get("teacher_ckpt")).to(DEVICE)


def _seconds_a_step(config: Config, steps: int = 3) -> float:
    """Time training steps; the first, which warms caches, does not count."""
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model).to(DEVICE).train()
    to_memory_format(model, config.get("memory_format"))
    optimiser = build_optim_wrapper(model, {**FEW_GROUPS, **config.optim_wrapper})
    size = config.train_dataloader.batch_size

    def read(number: int) -> Any:
        return pseudo_collate([dataset[(number * size + place) % len(dataset)] for place in range(size)])

    def learn(batches: Sequence[Any]) -> None:
        for batch in batches:
            model.train_step(batch, optimiser)

    learn([read(0)])
    batches: list[Any] = []
    reading = _seconds(lambda: batches.extend(map(read, range(1, 1 + steps)))) / steps
    learning = _seconds(lambda: learn(batches)) / steps
    if DEVICE == "cuda":  # loaders read meanwhile, and take no time of a GPU's
        return max(learning, reading / max(1, config.train_dataloader.num_workers))
    return reading + learning


@torch.no_grad()
def _seconds_a_picture(predict: Callable[[Any, Any], Any], preprocessor: nn.Module, config: Config) -> float:
    """Time a batch of the validation, from reading it to what a metric keeps of it."""
    settings = copy.deepcopy(config.val_dataloader)
    settings.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(settings)
    evaluator = Evaluator(copy.deepcopy(config.val_evaluator))
    evaluator.dataset_meta = loader.dataset.metainfo
    count = 0

    def see() -> None:
        nonlocal count
        data = preprocessor(next(batches), False)
        samples = predict(data["inputs"], data["data_samples"])
        evaluator.process(data_samples=samples, data_batch=data)
        count = len(samples)

    batches = iter(loader)
    see()
    batches = iter(loader)
    return _seconds(see) / count


def _seconds(what: Callable[[], Any]) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    what()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@contextmanager
def _threads(count: int) -> Any:
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def fit(seconds: float, pace: Pace, there: Amounts, *, can_be_cut: bool) -> Lengths:
    """Share out the time.

    Args:
        seconds: that are left.
        pace: of this machine.
        there: all the pictures.
        can_be_cut: whether some of them may be left out.
    """
    amounts = _cut(seconds, pace, there) if can_be_cut else there
    judging = amounts.held * pace.seen_by_student * _SCORING
    report = 2 * judging + amounts.held * pace.seen_by_teacher * _SCORING + _DRAWING
    cache = amounts.training * pace.seen_by_teacher
    trainings = max(seconds - cache - report - judging - _STARTING, 0.0)
    teacher_steps, teacher = 0, 0.0
    if pace.teacher_step:
        own = _STARTING + amounts.held * pace.seen_by_teacher * _SCORING
        teacher_steps = max(_MIN_STEPS, int((_TEACHER_SHARE * trainings - own) / pace.teacher_step))
        teacher = own + teacher_steps * pace.teacher_step
    steps = max(_MIN_STEPS, int((trainings - teacher) / pace.step))
    students = _STARTING + judging + steps * pace.step
    each = students / 2 if DEVICE == "cuda" else students
    expected = {"cache": cache, "baseline": each, "distilled": each, "report": report}
    if teacher_steps:
        expected["teacher"] = teacher
    return Lengths(steps, teacher_steps, amounts, expected)


def fewest(there: Amounts) -> Amounts:
    """Give the pictures that are kept however little time there is."""
    return Amounts(min(there.labelled, _FEWEST), 0, min(there.held, _FEWEST))


def _cut(seconds: float, pace: Pace, there: Amounts) -> Amounts:
    """Keep the pictures that there is time for, at first those with labels."""
    training = max(_FEWEST, int(_CACHE_SHARE * seconds / pace.seen_by_teacher))
    labelled = min(there.labelled, training)
    for_one = _SCORING * (3 * pace.seen_by_student + 2 * pace.seen_by_teacher)
    held = max(_FEWEST, int(_JUDGING_SHARE * seconds / for_one))
    return Amounts(labelled, min(there.unlabelled, training - labelled), min(there.held, held))
