"""Measure the speed of this machine and divide the available time among the stages of a quickstart."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher
from ibkd_mm.engine.evaluate import Evaluation
from ibkd_mm.engine.memory_format import to_memory_format
from ibkd_mm.engine.optim import FEW_GROUPS
from ibkd_mm.quickstart.plan import ImageCounts, RunLengths
from ibkd_mm.quickstart.recipe import Recipe
from ibkd_mm.utils.cores import usable_cores

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

_TIMED_STEPS, _MIN_STEPS = 3, 2
_MIN_IMAGES = 20  # labelled and validation images that are used even if there is no time for them
_START_SECONDS = 15.0  # in which a training starts
_FIGURES_SECONDS = 25.0  # in which a report times the models and draws its figures
_SIDE_BY_SIDE = 1.2  # how much longer a distilled step takes if another training runs on the other cores
_SCORING = 1.5  # duration of an evaluation over that of its predictions
_TEACHER_SHARE = 0.4  # of the training time
_CACHE_SHARE, _VALIDATION_SHARE = 0.25, 0.2  # of all time; images for which they are not enough are left out


@dataclass(frozen=True)
class Pace:
    """Measured seconds; a step is that of both students, the teacher's is 0 if it is not trained."""

    step: float
    teacher_step: float
    teacher_image: float
    student_image: float


def student_threads() -> int:
    """Return the threads for a student's training: two run side by side on CPUs, one at a time on a GPU."""
    return usable_cores() if DEVICE == "cuda" else max(1, usable_cores() // 2)


def measure(recipe: Recipe) -> Pace:
    """Time some training steps and predictions on the real data."""
    init_default_scope("mmdet")
    threads, baseline = student_threads(), recipe.baseline
    students = 2.0 if DEVICE == "cuda" else max(1.0, 2 * threads / usable_cores())
    all_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    step = _time_step(baseline) * students * _SIDE_BY_SIDE
    student = MODELS.build(baseline.model).to(DEVICE).eval()
    preprocessor = student.data_preprocessor
    student_image = _time_image(partial(student, mode="predict"), preprocessor, baseline)
    torch.set_num_threads(all_threads)
    if recipe.teacher:  # which is as fast before its training
        teacher = MODELS.build(recipe.teacher.model).to(DEVICE).eval()
    else:
        model = recipe.distilled.model
        teacher = build_teacher(model.teacher, model.get("teacher_ckpt")).to(DEVICE)
    teacher_image = _time_image(FrozenTeacher(teacher, preprocessor).predict, preprocessor, baseline)
    teacher_step = _time_step(recipe.teacher) if recipe.teacher else 0.0
    return Pace(step, teacher_step, teacher_image, student_image)


def _time_step(config: Config) -> float:
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model).to(DEVICE).train()
    to_memory_format(model, config.get("memory_format"))
    optimizer = build_optim_wrapper(model, {**FEW_GROUPS, **config.optim_wrapper})
    size = config.train_dataloader.batch_size

    def load(batch: int) -> Any:
        return pseudo_collate([dataset[(batch * size + index) % len(dataset)] for index in range(size)])

    def train(batches: list[Any]) -> None:
        for batch in batches:
            model.train_step(batch, optimizer)

    train([load(0)])
    batches: list[Any] = []
    loading = _time(lambda: batches.extend(map(load, range(1, 1 + _TIMED_STEPS)))) / _TIMED_STEPS
    training = _time(lambda: train(batches)) / _TIMED_STEPS
    if DEVICE == "cuda":  # worker processes load the next batches meanwhile
        return max(training, loading / max(1, config.train_dataloader.num_workers))
    return loading + training


def _time_image(predict: Callable[[Any, Any], Any], preprocessor: Any, config: Config) -> float:
    """Time loading, prediction and processing of a validation batch, after one that fills caches."""
    evaluation = Evaluation(predict, preprocessor, config.val_dataloader, config.val_evaluator)
    images = len(next(iter(evaluation)))
    return _time(lambda: next(iter(evaluation))) / images


def _time(work: Callable[[], Any]) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def divide_time(seconds: float, pace: Pace, available: ImageCounts, *, can_be_reduced: bool) -> RunLengths:
    """Divide the remaining seconds among the stages; images for which they are not enough may be left out."""
    images = _reduce(seconds, pace, available) if can_be_reduced else available
    student_validation = images.validation * pace.student_image * _SCORING
    teacher_validation = images.validation * pace.teacher_image * _SCORING
    report = 2 * student_validation + teacher_validation + _FIGURES_SECONDS
    cache = images.training * pace.teacher_image
    trainings = max(seconds - cache - report - student_validation - _START_SECONDS, 0.0)
    expected = {"cache": cache, "report": report}
    teacher_steps = 0
    if pace.teacher_step:
        fixed = _START_SECONDS + teacher_validation
        teacher_steps = max(_MIN_STEPS, int((_TEACHER_SHARE * trainings - fixed) / pace.teacher_step))
        expected["teacher"] = fixed + teacher_steps * pace.teacher_step
    steps = max(_MIN_STEPS, int((trainings - expected.get("teacher", 0.0)) / pace.step))
    students = _START_SECONDS + student_validation + steps * pace.step
    expected["baseline"] = expected["distilled"] = students / 2 if DEVICE == "cuda" else students
    return RunLengths(steps, teacher_steps, images, expected)


def minimum_images(available: ImageCounts) -> ImageCounts:
    """Return the numbers of images that are used in any case."""
    return ImageCounts(min(available.labelled, _MIN_IMAGES), 0, min(available.validation, _MIN_IMAGES))


def _reduce(seconds: float, pace: Pace, available: ImageCounts) -> ImageCounts:
    training = max(_MIN_IMAGES, int(_CACHE_SHARE * seconds / pace.teacher_image))
    labelled = min(available.labelled, training)
    # the student is evaluated after its training and twice in the report, the teacher once in each
    evaluation = _SCORING * (3 * pace.student_image + 2 * pace.teacher_image)
    validation = max(_MIN_IMAGES, int(_VALIDATION_SHARE * seconds / evaluation))
    unlabelled = min(available.unlabelled, training - labelled)
    return ImageCounts(labelled, unlabelled, min(available.validation, validation))
