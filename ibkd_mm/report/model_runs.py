"""Evaluation of a report's models, cached beside the page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ibkd_mm.benchmark.machine import hardware
from ibkd_mm.config.load import resolve_model
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.errors import UserError
from ibkd_mm.report import evaluate_models
from ibkd_mm.report.evaluate_models import OpenedModel, ValidationSet
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

    A model that cannot be run is named with the reason. Results are cached below `folder`. `on_progress`, if
    given, is called with the numbers of predicted and of all images instead of showing the progress.
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


class _Model(NamedTuple):
    """How to identify and how to open a model; its cached result is found by the identity."""

    identity: Callable[[], list[Any]]
    open: Callable[[], OpenedModel]


@dataclass(frozen=True)
class _ModelRuns:
    config: dict[str, Any]
    validation: ValidationSet
    folder: Path
    on_progress: Callable[[int, int], None] | None

    @property
    def data(self) -> tuple[Any, ...]:
        return self.config["val_dataloader"]["dataset"], self.config["val_evaluator"], self.validation.digest

    def run(self, groups: Sequence[Group]) -> ModelResults:
        teacher_of = _label_teachers(groups)
        learners = {teacher_of[group.label]: group for group in groups if group.label in teacher_of}
        models = {group.label: _student(group) for group in groups}
        models |= {label: _teacher(group) for label, group in learners.items()}
        results: dict[str, ModelResult] = {}
        failures = []
        for label, model in models.items():
            try:
                with user_errors(Config(self.config)):
                    results[label] = self._result(label, model, list(models))
            except UserError as error:
                failures.append(f"The {label} was not evaluated: {error}")
        return ModelResults(
            models=results,
            teacher_of=teacher_of,
            images=self.validation.images,
            classes=self.validation.classes,
            palette=self.validation.palette,
            speeds=self._speeds({label: models[label] for label in results}),
            hardware=hardware(evaluate_models.DEVICE),
            missing=" ".join(failures),
        )

    def _result(self, label: str, model: _Model, labels: list[str]) -> ModelResult:
        def evaluate() -> dict[str, Any]:
            total, on_progress = len(self.validation.images), self.on_progress
            run = partial(evaluate_models.evaluate, model.open(), self.validation)
            if on_progress is not None:
                before, work = total * labels.index(label), total * len(labels)
                return run(lambda done: on_progress(before + done, work)).to_dict()
            with Progress(f"Evaluating the {label}", total) as progress:
                return run(progress.update).to_dict()

        return ModelResult.from_dict(self._cached("", [model.identity(), self.data], evaluate))

    def _speeds(self, models: dict[str, _Model]) -> list[Speed]:
        def measure() -> list[dict[str, Any]]:
            opened = {label: model.open() for label, model in models.items()}
            return [asdict(speed) for speed in evaluate_models.time_models(opened, self.validation)]

        if not models:
            return []
        identities = [[label, model.identity()] for label, model in models.items()]
        identity = [identities, self.data, hardware(evaluate_models.DEVICE)]
        return [Speed(**speed) for speed in self._cached("speed_", identity, measure)]

    def _cached(self, prefix: str, identity: Any, compute: Callable[[], Any]) -> Any:
        file = self.folder / f"{prefix}{hash_of_value([__version__, identity])[:16]}.json"
        if not file.is_file():
            content = json.dumps(compute())
            with atomic_write(file) as partial:
                partial.write_text(content)
        return json.loads(file.read_text())


def _student(group: Group) -> _Model:
    def checkpoint() -> Path:
        if group.first.checkpoint is None:
            raise UserError(f"{group.first.work_dir} has no checkpoint.")
        return group.first.checkpoint

    return _Model(
        lambda: [group.student, _file_version(checkpoint())],
        cache(lambda: evaluate_models.open_student(group.student, checkpoint())),
    )


def _teacher(group: Group) -> _Model:
    teacher, student = _teacher_settings(group), group.student

    def identity() -> list[Any]:
        settings, checkpoint, _ = resolve_model(*teacher)
        return [dict(settings), _file_version(checkpoint), student["data_preprocessor"]]

    return _Model(identity, cache(lambda: evaluate_models.open_teacher(*teacher, student)))


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
