"""Groups of training runs that differ in their seed alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ibkd_mm.benchmark.benchmark_model import unique_names
from ibkd_mm.config.load import student_config
from ibkd_mm.config.walk import DROP, changed
from ibkd_mm.engine.runner import with_safety_hooks
from ibkd_mm.errors import UserError
from ibkd_mm.report.training_run import Run

BASELINE, DISTILLED = "baseline", "distilled"

SCHEDULE = ("train_cfg", "optim_wrapper", "param_scheduler", "custom_hooks", "auto_scale_lr")
DATA = ("train_dataloader", "val_dataloader", "val_evaluator")
# These change the speed of a training or the times of its validations, but not its result.
_HOOKS_WITHOUT_EFFECT = {
    *("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint", "visualization"),
    *("data_position", "preemption"),
}
_WITHOUT_EFFECT = {
    *("num_workers", "persistent_workers", "prefetch_factor", "pin_memory"),
    *("val_interval", "val_begin", "dynamic_intervals"),
}


@dataclass(frozen=True)
class Group:
    """Runs of one recipe, ordered by seed."""

    label: str
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the first seed, which represents the group."""
        return self.runs[0]

    @property
    def distilled(self) -> bool:
        """Whether the runs have a teacher."""
        return _role(self.first) == DISTILLED

    @property
    def seeds(self) -> list[int | None]:
        """The seed of each run."""
        return [run.seed for run in self.runs]

    @property
    def student(self) -> dict[str, Any]:
        """Config of the model that remains without the teacher."""
        return student_config(self.first.config["model"])


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs by recipe: groups without a teacher first, otherwise in the given order."""
    recipes: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: _role(run) != BASELINE):
        recipes.setdefault(_recipe(run), []).append(run)
    groups = [sorted(recipe, key=lambda run: (run.seed is None, run.seed)) for recipe in recipes.values()]
    for first, second in (pair for group in groups for pair in pairwise(group)):
        if first.seed == second.seed is not None:
            raise UserError(
                f"Expected one run per seed, found {first.work_dir} and {second.work_dir} with the same "
                f"settings and the same seed, {first.seed}. Leave one of them out."
            )
    labels = [label for role in (BASELINE, DISTILLED) for label in _labels(groups, role)]
    return [Group(label, tuple(group)) for label, group in zip(labels, groups, strict=True)]


def effective(settings: Any) -> Any:
    """Copy settings without those that have no effect on the result."""
    return changed(settings, lambda value, key: DROP if key in _WITHOUT_EFFECT else value)


def _role(run: Run) -> str:
    model = run.config["model"]
    return BASELINE if student_config(model) is model else DISTILLED


def _recipe(run: Run) -> str:
    recipe = {key: run.config.get(key) for key in ("model", *SCHEDULE, *DATA)}
    hooks = with_safety_hooks(run.config.get("default_hooks") or {})  # some tools do not log those
    recipe["default_hooks"] = {
        name: hook for name, hook in hooks.items() if name not in _HOOKS_WITHOUT_EFFECT
    }
    return json.dumps([effective(recipe), run.load_from, run.processes], sort_keys=True, default=str)


def _labels(groups: Sequence[Sequence[Run]], role: str) -> list[str]:
    """Return unique labels: the role and, of several groups, what differs in their config or folder names."""
    runs = [group[0] for group in groups if _role(group[0]) == role]
    words = [run.name.split("_") for run in runs]
    common = set.intersection(*map(set, words)) if words else set()
    names = ["_".join(word for word in parts if word not in common) for parts in words]
    labels = [f"{role} ({name})" if name and len(runs) > 1 else role for name in names]
    if len(set(labels)) == len(labels):
        return labels
    folders = unique_names([str(run.work_dir.absolute()) for run in runs])
    return [f"{role} ({folder})" for folder in folders]
