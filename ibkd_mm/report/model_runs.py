"""Evaluation of a report's models, cached beside the page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ibkd_mm.benchmark.machine import hardware
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.distill.teacher import describe
from ibkd_mm.errors import UserError
from ibkd_mm.report import evaluate_models
from ibkd_mm.report.evaluate_models import OnProgress, ValidationSet
from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResult, ModelResults, Speed
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.digest import hash_of_value
from ibkd_mm.utils.progress import Progress
from ibkd_mm.version import __version__

_CACHE = "evaluated"


def run_models(
    groups: Sequence[Group], folder: Path, on_progress: Callable[[int, int], None] | None = None
) -> ModelResults:
    """Evaluate each group's first seed and each teacher on the first group's validation set.

    A model that cannot be run is named with the reason. Results are cached below `folder`.

    Args:
        groups: groups to evaluate, each by the last checkpoint of its first seed.
        folder: folder of the report.
        on_progress: called with the numbers of predicted and of all images, instead of showing the progress.
    """
    config = groups[0].first.config
    init_default_scope(config.get("default_scope") or "mmdet")
    try:
        with user_errors(Config(config)):
            validation = evaluate_models.read_validation_set(config)
    except UserError as error:
        return ModelResults(missing=f"The models were not run: {error}")
    (folder / _CACHE).mkdir(parents=True, exist_ok=True)
    return _ModelRuns(config, validation, folder / _CACHE, on_progress).run(groups)


@dataclass(frozen=True)
class _Model:
    """A model to evaluate.

    Args:
        label: label of the group or teacher.
        identity: returns settings and checkpoint, which identify the cached result.
        open: returns settings and the built model.
        evaluate: evaluates the model on the validation set.
    """

    label: str
    identity: Callable[[], list[Any]]
    open: Callable[[], tuple[Any, nn.Module]]
    evaluate: Callable[[nn.Module, OnProgress], ModelResult]


class _ModelRuns:
    def __init__(
        self,
        config: dict[str, Any],
        validation: ValidationSet,
        folder: Path,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._config, self._validation, self._folder = config, validation, folder
        self._on_progress = on_progress
        self._data = config["val_dataloader"]["dataset"], config["val_evaluator"], validation.digest

    def run(self, groups: Sequence[Group]) -> ModelResults:
        teacher_of = _label_teachers(groups)
        learners = {teacher_of[group.label]: group for group in groups if group.label in teacher_of}
        models = [self._student(group) for group in groups]
        models += [self._teacher(label, group) for label, group in learners.items()]
        results: dict[str, ModelResult] = {}
        failures = []
        for index, model in enumerate(models):
            try:
                with user_errors(Config(self._config)):
                    results[model.label] = self._result(model, index, len(models))
            except UserError as error:
                failures.append(f"The {model.label} was not evaluated: {error}")
        return ModelResults(
            models=results,
            teacher_of=teacher_of,
            images=self._validation.images,
            classes=self._validation.classes,
            palette=self._validation.palette,
            speeds=self._speeds([model for model in models if model.label in results]),
            hardware=hardware(evaluate_models.DEVICE),
            missing=" ".join(failures),
        )

    def _student(self, group: Group) -> _Model:
        student = group.student

        def checkpoint() -> Path:
            if group.first.checkpoint is None:
                raise UserError(f"{group.first.work_dir} has no checkpoint.")
            return group.first.checkpoint

        return _Model(
            group.label,
            lambda: [student, _file_version(checkpoint())],
            cache(lambda: (student, evaluate_models.build_student(student, checkpoint()))),
            lambda model, update: evaluate_models.evaluate_student(model, self._validation, update),
        )

    def _teacher(self, label: str, group: Group) -> _Model:
        teacher, student = _teacher_settings(group), group.student

        def identity() -> list[Any]:
            settings, checkpoint, _ = describe(*teacher)
            return [dict(settings), _file_version(checkpoint), student["data_preprocessor"]]

        return _Model(
            label,
            identity,
            cache(lambda: (describe(*teacher)[0], evaluate_models.open_teacher(*teacher))),
            lambda model, update: evaluate_models.evaluate_teacher(model, student, self._validation, update),
        )

    def _result(self, model: _Model, index: int, count: int) -> ModelResult:
        file = self._cache_file("", [model.identity(), self._data])
        if file.is_file():
            return ModelResult.from_dict(json.loads(file.read_text()))
        network, total, on_progress = model.open()[1], len(self._validation.images), self._on_progress
        if on_progress is not None:
            result = model.evaluate(network, lambda done: on_progress(index * total + done, count * total))
        else:
            with Progress(f"Evaluating the {model.label}", total) as progress:
                result = model.evaluate(network, progress.update)
        _write(file, result.to_dict())
        return result

    def _speeds(self, models: Sequence[_Model]) -> list[Speed]:
        if not models:
            return []
        identities = [[model.label, model.identity()] for model in models]
        file = self._cache_file("speed_", [identities, self._data, hardware(evaluate_models.DEVICE)])
        if file.is_file():
            return [Speed(**speed) for speed in json.loads(file.read_text())]
        opened = {model.label: model.open() for model in models}
        speeds = evaluate_models.time_models(opened, self._validation)
        _write(file, [asdict(speed) for speed in speeds])
        return speeds

    def _cache_file(self, prefix: str, identity: Any) -> Path:
        return self._folder / f"{prefix}{hash_of_value([__version__, identity])[:16]}.json"


def _label_teachers(groups: Sequence[Group]) -> dict[str, str]:
    """Return the label of each distilled group's teacher; a single teacher is called `teacher`."""
    learners: dict[str, list[str]] = {}
    for group in groups:
        if group.distilled:
            learners.setdefault(json.dumps(_teacher_settings(group), default=str), []).append(group.label)
    return {
        label: "teacher" if len(learners) == 1 else f"teacher of {labels[0]}"
        for labels in learners.values()
        for label in labels
    }


def _teacher_settings(group: Group) -> tuple[Any, str | None]:
    model = group.first.config["model"]
    return model["teacher"], model.get("teacher_ckpt")


def _file_version(path: Any) -> list[Any]:
    """Return the path with, for a local file, size and time, which change if it is overwritten."""
    file = Path(str(path))
    return [str(path), *((file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else ())]


def _write(file: Path, content: Any) -> None:
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(content))
