"""Check that groups differ in the teacher alone: same student, schedule, data and seeds."""

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import RepeatDataset
from mmengine.registry import Registry

from ibkd_mm.config.walk import DROP, changed, leaf_datasets, walk
from ibkd_mm.errors import UserError
from ibkd_mm.registry import DATASETS, TRANSFORMS
from ibkd_mm.report.groups import DATA, SCHEDULE, Group, effective
from ibkd_mm.report.training_run import UNKNOWN

_MAX_LINES = 20
_NOT_SET = "not set"


def check_comparable(groups: Sequence[Group], *, allowed: bool) -> list[str]:
    """Return the differences between the first group and the others, and the unfinished trainings.

    Raises UserError if there are any and `allowed` is False.
    """
    found = [line for other in groups[1:] for line in differences(groups[0], other)]
    found += [
        f"{run.work_dir}: last validated at {run.unit} {run.log.reached} of {run.end} ({group.label})"
        for group in groups
        for run in group.runs
        if run.log.reached < run.end
    ]
    if found and not allowed:
        shown = [f"  {line}" for line in found[:_MAX_LINES]]
        more = [f"  and {len(found) - _MAX_LINES} more"] if len(found) > _MAX_LINES else []
        raise UserError(
            "These trainings cannot be compared fairly: they differ in more than the teacher.\n"
            + "\n".join([*shown, *more])
            + "\nCompare other trainings, or use --unequal: the page then lists the differences."
        )
    return found


def differences(first: Group, second: Group) -> list[str]:
    """Return the settings, except the teacher's, in which two groups differ, one line each."""
    left, right = _compared_settings(first), _compared_settings(second)
    if UNKNOWN in (first.first.load_from, second.first.load_from):
        del left["load_from"], right["load_from"]
    return [
        f"{key}: {left.get(key, _NOT_SET)} ({first.label}), {right.get(key, _NOT_SET)} ({second.label})"
        for key in dict.fromkeys([*left, *right])
        if left.get(key, _NOT_SET) != right.get(key, _NOT_SET)
    ]


def _compared_settings(group: Group) -> dict[str, Any]:
    run = group.first
    settings = effective({key: run.config.get(key) for key in (*SCHEDULE, *DATA)})
    if run.unit == "step":  # in epochs, more images make the training longer
        settings["train_dataloader"] = _labelled_images(settings["train_dataloader"])
    compared = {
        "seeds": ", ".join(map(str, group.seeds)),
        "processes": run.processes,
        "load_from": run.load_from,
        **changed(settings, _drop_teacher_transform),
        "student": effective(group.student),
    }
    return {key: leaf for key, leaf in walk(compared) if not (leaf and isinstance(leaf, dict | list | tuple))}


def _labelled_images(settings: Any) -> Any:
    """Remove datasets that only the teacher labels, and the repetition of the others."""

    def change(node: Any, _: Any) -> Any:
        if not isinstance(node, dict):
            return node
        kind = _configured_class(DATASETS, node)
        if isinstance(kind, type) and issubclass(kind, RepeatDataset):
            return _labelled_images(node["dataset"])
        datasets = node.get("datasets", [])
        labelled = [
            dataset
            for dataset in datasets
            if not (all(map(_removes_labels, leaf_datasets(dataset))) or _removes_labels(dataset))
        ]
        if len(labelled) == 1:
            return _labelled_images(labelled[0])
        if len(labelled) < len(datasets):
            return _labelled_images({**node, "datasets": labelled})
        return node

    return changed(settings, change)


def _removes_labels(dataset: dict[str, Any]) -> bool:
    return any(_has_mark(step, "removes_labels") for step in dataset.get("pipeline") or [])


def _drop_teacher_transform(node: Any, _: Any) -> Any:
    return DROP if isinstance(node, dict) and _has_mark(node, "carries_teacher") else node


def _has_mark(step: dict[str, Any], mark: str) -> bool:
    return bool(getattr(_configured_class(TRANSFORMS, step), mark, False))


def _configured_class(registry: Registry, settings: dict[str, Any]) -> Any:
    """Return the class that `type` names; None if it is unknown here, as a user's own class may be."""
    kind = settings.get("type")
    try:
        return registry.get(kind) if isinstance(kind, str) else kind
    except Exception:  # looking for the class imports its package, which may fail in any way
        return None
