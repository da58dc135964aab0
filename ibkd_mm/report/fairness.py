"""Whether two groups may be compared: the same student, schedule, data and seeds."""

from collections.abc import Iterator, Sequence
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.report.groups import Group, effective
from ibkd_mm.report.training_run import UNKNOWN

_SCHEDULE = ("train_cfg", "optim_wrapper", "param_scheduler", "custom_hooks", "auto_scale_lr")
_DATA = ("train_dataloader", "val_dataloader", "val_evaluator")
_OF_THE_TEACHER = {"LoadTeacherInstances", "SplitTeacherInstances", "MaskCells"}
"""Transforms that carry what a teacher saw along, and leave pictures and annotations as they are."""
_SHOWN = 20
_ABSENT = "not set"


def differences(one: Group, other: Group) -> list[str]:
    """Name what differs between two groups besides the teacher, setting by setting."""
    ours, theirs = (dict(_leaves(_compared(group))) for group in (one, other))
    if UNKNOWN in (one.first.load_from, other.first.load_from):
        for leaves in (ours, theirs):
            leaves.pop("load_from")
    found = [
        f"{key}: {_shown(ours, key)} ({one.label}), {_shown(theirs, key)} ({other.label})"
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key, _ABSENT) != theirs.get(key, _ABSENT)
    ]
    return found


def unequal(groups: Sequence[Group], allowed: bool) -> list[str]:
    """Name what differs between the first group and the others, and what is unfinished.

    Raises UserError where anything is and that is not `allowed`.
    """
    found = [line for other in groups[1:] for line in differences(groups[0], other)] + unfinished(groups)
    if found and not allowed:
        shown = [f"  {line}" for line in found[:_SHOWN]]
        more = [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise UserError(
            "These trainings cannot be compared fairly, as they differ in more than the teacher:\n"
            + "\n".join([*shown, *more])
            + "\nCompare others, or give --unequal: the page then names the differences."
        )
    return found


def unfinished(groups: Sequence[Group]) -> list[str]:
    """Name the trainings that were not validated at their end."""
    return [
        f"{run.work_dir}: last validated at {run.unit} {run.log.reached} of {run.end} ({group.label})"
        for group in groups
        for run in group.runs
        if run.log.reached < run.end
    ]


def _compared(group: Group) -> dict[str, Any]:
    config = group.first.config
    settings = effective({key: config.get(key) for key in (*_SCHEDULE, *_DATA)})
    if group.first.unit == "step":  # of epochs, more pictures make longer ones
        settings["train_dataloader"] = _labelled_once(settings["train_dataloader"])
    return {
        "seeds": ", ".join(map(str, group.seeds)),
        "processes": group.first.processes,
        "load_from": group.first.load_from,
        **_without_teacher(settings),
        "student": effective(group.student),
    }


def _labelled_once(settings: Any) -> Any:
    """Leave out pictures that the teacher alone labels, and how often others are shown among them."""
    if isinstance(settings, list):
        return [_labelled_once(each) for each in settings]
    if not isinstance(settings, dict):
        return settings
    if _kind(settings) == "RepeatDataset":
        return _labelled_once(settings["dataset"])
    if "datasets" in settings:
        labelled = [part for part in settings["datasets"] if not _seen_by_teacher_alone(part)]
        if len(labelled) == 1:
            return _labelled_once(labelled[0])
        settings = {**settings, "datasets": labelled}
    return {key: _labelled_once(value) for key, value in settings.items()}


def _without_teacher(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_teacher(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [_without_teacher(each) for each in settings if not _carries_teacher(each)]
    return settings


def _seen_by_teacher_alone(part: dict[str, Any]) -> bool:
    inner = [*part.get("datasets", []), *([part["dataset"]] if "dataset" in part else [])]
    bare = any(_kind(step) == "NoAnnotations" for step in part.get("pipeline") or [])
    return bare or (bool(inner) and all(map(_seen_by_teacher_alone, inner)))


def _carries_teacher(step: Any) -> bool:
    return isinstance(step, dict) and _kind(step) in _OF_THE_TEACHER


def _kind(step: dict[str, Any]) -> str:
    return str(step.get("type")).rpartition(".")[2]


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict | list) or not node:
        yield path, node
        return
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _leaves(value, f"{path}.{name}" if path else str(name))


def _shown(leaves: dict[str, Any], key: str) -> str:
    return str(leaves.get(key, _ABSENT))
