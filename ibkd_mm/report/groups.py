"""Trainings that differ in their seed alone, and what part they play."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.report.training_run import Run

BASELINE, DISTILLED = "baseline", "distilled"

_DISTILLATION = "FrozenTeacherDistill"
_RECIPE = (
    "model",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "train_dataloader",
    "val_dataloader",
    "val_evaluator",
    "custom_hooks",
    "auto_scale_lr",
)
_HOOKS_WITHOUT_EFFECT = {
    *("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint", "visualization"),
    *("data_position", "preemption"),
}
WITHOUT_EFFECT = {
    *("num_workers", "persistent_workers", "prefetch_factor", "pin_memory"),
    *("val_interval", "val_begin", "dynamic_intervals"),
}
"""Settings that change how fast a training is or how often it is looked at, and not what comes of it."""


@dataclass(frozen=True)
class Group:
    """Trainings of one recipe, ordered by seed.

    Args:
        label: what it is called in figures and tables.
        runs: at least one.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the first seed, which stands for all where one is enough."""
        return self.runs[0]

    @property
    def distilled(self) -> bool:
        """Whether a teacher took part."""
        return _role(self.first) == DISTILLED

    @property
    def seeds(self) -> list[int | None]:
        """One of each run."""
        return [run.seed for run in self.runs]

    @property
    def student(self) -> dict[str, Any]:
        """The model that is left once the teacher is gone."""
        model = self.first.config["model"]
        return model["architecture"] if self.distilled else model


def group(runs: Sequence[Run]) -> list[Group]:
    """Sort runs into groups, those without a teacher first, else in the order given."""
    recipes: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: _role(run) != BASELINE):
        recipes.setdefault(_recipe(run), []).append(run)
    groups = [sorted(each, key=lambda run: (run.seed is None, run.seed)) for each in recipes.values()]
    for each in groups:
        _check_different_seeds(each)
    labels = [label for role in (BASELINE, DISTILLED) for label in _labels(groups, role)]
    return [Group(label, tuple(each)) for label, each in zip(labels, groups, strict=True)]


def effective(settings: Any) -> Any:
    """Leave out, at any depth, the settings without effect."""
    if isinstance(settings, dict):
        return {key: effective(value) for key, value in settings.items() if key not in WITHOUT_EFFECT}
    return [effective(each) for each in settings] if isinstance(settings, list | tuple) else settings


def _role(run: Run) -> str:
    kind = str(run.config["model"]["type"]).rpartition(".")[2]
    return DISTILLED if kind == _DISTILLATION else BASELINE


def _recipe(run: Run) -> str:
    recipe = {key: run.config.get(key) for key in _RECIPE}
    hooks = run.config.get("default_hooks") or {}
    recipe["default_hooks"] = {
        name: hook for name, hook in hooks.items() if name not in _HOOKS_WITHOUT_EFFECT
    }
    return json.dumps([effective(recipe), run.load_from, run.processes], sort_keys=True, default=str)


def _check_different_seeds(runs: Sequence[Run]) -> None:
    for one, other in pairwise(runs):
        if one.seed == other.seed is not None:
            raise UserError(
                f"{one.work_dir} and {other.work_dir} are one training twice: the same settings and the same "
                f"seed, {one.seed}. Leave one of them out."
            )


def _labels(groups: Sequence[Sequence[Run]], role: str) -> list[str]:
    """Name groups by their role and, of several, by what tells their configs or else their folders apart.

    No two labels are the same: figures are kept by them.
    """
    ours = [each[0] for each in groups if _role(each[0]) == role]
    words = [run.name.split("_") for run in ours]
    common = set.intersection(*map(set, words)) if words else set()
    labels = []
    for parts in words:
        own = "_".join(part for part in parts if part not in common)
        labels.append(f"{role} ({own})" if own and len(ours) > 1 else role)
    if len(set(labels)) == len(labels):
        return labels
    ends = [_ends(run.work_dir) for run in ours]
    shared = Counter(chain.from_iterable(ends))
    return [f"{role} ({next(end for end in each if shared[end] == 1)})" for each in ends]


def _ends(folder: Path) -> list[str]:
    """Give the last part of a path, its last two, and so on."""
    parts = folder.absolute().parts
    return ["/".join(parts[-length:]) for length in range(1, len(parts) + 1)]
