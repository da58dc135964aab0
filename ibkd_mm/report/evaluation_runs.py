"""The evaluation of a report's models, each once: what was found is kept beside the page."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ibkd_mm.benchmark.machine import hardware
from ibkd_mm.config.model_reference import resolve_model
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.errors import UserError
from ibkd_mm.report import Evaluated, Evaluation, Group, Speed
from ibkd_mm.report import evaluate_models as report_models
from ibkd_mm.report.evaluate_models import Progress, Validation
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.digest import hash_of_value
from ibkd_mm.version import __version__

FOLDER = "evaluated"


def evaluate(groups: Sequence[Group], folder: Path, progress: Progress | None = None) -> Evaluation:
    """Run the last checkpoints of the groups' first seeds, and teachers, on the first group's validation set.

    What cannot be run is named with the reason. What was found is kept below `folder` and found again there.
    `progress` is given how many pictures were seen of how many, in place of lines that say so.
    """
    config = groups[0].first.config
    init_default_scope(config.get("default_scope") or "mmdet")
    try:
        with user_errors(Config(config)):
            validation = report_models.read_validation(config)
    except UserError as error:
        return Evaluation(lacking=f"The models were not run: {error}")
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    return _Evaluating(config, validation, folder / FOLDER, progress).run(groups)


@dataclass(frozen=True)
class _Model:
    """One to be run.

    Args:
        label: of it.
        identity: tells what it is made of; another model has another.
        open: gives its settings and itself, built once.
        evaluate: lets it see the validation set.
    """

    label: str
    identity: Callable[[], list[Any]]
    open: Callable[[], tuple[Any, nn.Module]]
    evaluate: Callable[[nn.Module, Progress], Evaluated]


class _Evaluating:
    def __init__(
        self, config: dict[str, Any], validation: Validation, folder: Path, progress: Progress | None
    ) -> None:
        self._config, self._validation, self._folder = config, validation, folder
        self._progress = progress
        self._seen = config["val_dataloader"]["dataset"], config["val_evaluator"], validation.contents

    def run(self, groups: Sequence[Group]) -> Evaluation:
        teacher_of = _name_teachers(groups)
        learners = {label: group for group in groups if (label := teacher_of.get(group.label))}
        models = [self._student(group) for group in groups]
        models += [self._teacher(label, group) for label, group in learners.items()]
        found: dict[str, Evaluated] = {}
        lacking = []
        for place, model in enumerate(models):
            try:
                with user_errors(Config(self._config)):
                    found[model.label] = self._found(model, place, len(models))
            except UserError as error:
                lacking.append(f"The {model.label} was not evaluated: {error}")
        return Evaluation(
            models=found,
            teacher_of=teacher_of,
            pictures=self._validation.pictures,
            classes=self._validation.classes,
            palette=self._validation.palette,
            speeds=self._speeds([model for model in models if model.label in found]),
            hardware=hardware(report_models.DEVICE),
            lacking=" ".join(lacking),
        )

    def _student(self, group: Group) -> _Model:
        student = group.student

        def checkpoint() -> Path:
            if group.first.checkpoint is None:
                raise UserError(f"{group.first.work_dir} has no checkpoint.")
            return group.first.checkpoint

        return _Model(
            group.label,
            lambda: [student, _stamp(checkpoint())],
            cache(lambda: (student, report_models.build_student(student, checkpoint()))),
            lambda model, seen: report_models.evaluate_student(model, self._validation, seen),
        )

    def _teacher(self, label: str, group: Group) -> _Model:
        settings, given = _teacher(group)

        def identity() -> list[Any]:
            described, checkpoint, _ = resolve_model(settings, given)
            return [dict(described), _stamp(checkpoint), group.student["data_preprocessor"]]

        return _Model(
            label,
            identity,
            cache(lambda: (resolve_model(settings, given)[0], report_models.open_teacher(settings, given))),
            lambda model, seen: report_models.evaluate_teacher(model, group.student, self._validation, seen),
        )

    def _found(self, model: _Model, place: int, of: int) -> Evaluated:
        file = self._folder / f"{_digest([model.identity(), self._seen])}.json"
        if file.is_file():
            return Evaluated.from_dict(json.loads(file.read_text()))
        found = model.evaluate(model.open()[1], self._shown(model.label, place, of))
        _write(file, found.plain())
        return found

    def _shown(self, label: str, place: int, of: int) -> Progress:
        if self._progress is None:
            print(f"Evaluating the {label}", file=sys.stderr, flush=True)
            return report_models.ShownProgress()
        whole = self._progress
        return lambda done, total: whole(place * total + done, of * total)

    def _speeds(self, models: Sequence[_Model]) -> list[Speed]:
        if not models:
            return []
        who = [[model.label, model.identity()] for model in models]
        file = self._folder / f"speed_{_digest([who, self._seen, hardware(report_models.DEVICE)])}.json"
        if file.is_file():
            return [Speed(**each) for each in json.loads(file.read_text())]
        opened = {model.label: model.open() for model in models}
        speeds = report_models.time_models(opened, self._validation)
        _write(file, [asdict(speed) for speed in speeds])
        return speeds


def _name_teachers(groups: Sequence[Group]) -> dict[str, str]:
    """Name each group's teacher; where all have one, it is `teacher`."""
    learners: dict[str, list[str]] = {}
    for group in groups:
        if group.distilled:
            learners.setdefault(json.dumps(_teacher(group), default=str), []).append(group.label)
    return {
        label: "teacher" if len(learners) == 1 else f"teacher of {labels[0]}"
        for labels in learners.values()
        for label in labels
    }


def _teacher(group: Group) -> tuple[Any, str | None]:
    model = group.first.config["model"]
    return model["teacher"], model.get("teacher_ckpt")


def _stamp(checkpoint: Any) -> list[Any]:
    """Tell a file from an earlier one of its name."""
    file = Path(str(checkpoint))
    return (
        [str(checkpoint), file.stat().st_size, file.stat().st_mtime_ns]
        if file.is_file()
        else [str(checkpoint)]
    )


def _digest(identity: Any) -> str:
    return hash_of_value([__version__, identity])[:16]


def _write(file: Path, content: Any) -> None:
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(content))
