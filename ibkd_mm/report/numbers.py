"""All numbers of a report, as JSON takes them."""

from dataclasses import asdict
from typing import Any

from ibkd_mm.report.comparison import FIGURES, KINDS, Figure, gain, reached
from ibkd_mm.report.content import Content
from ibkd_mm.report.groups import Group
from ibkd_mm.report.tables import closed
from ibkd_mm.report.training_run import Run

_METRICS = [prefix + figure for prefix in KINDS.values() for figure in FIGURES.values()]


def plain(content: Content) -> dict[str, Any]:
    """Give figures, curves and origins of all models; metrics between 0 and 1."""
    evaluation = content.evaluation
    return {
        "command": content.command,
        "unequal": list(content.unequal),
        "left_out": evaluation.lacking or None,
        "groups": [_group(group, content) for group in content.groups],
        "evaluated": {
            label: {"metrics": model.metrics, "mask_ap_by_class": model.classes}
            for label, model in evaluation.models.items()
        },
        "teacher_of": evaluation.teacher_of,
        "speeds": [asdict(speed) for speed in evaluation.speeds],
        "hardware": evaluation.hardware or None,
    }


def _group(group: Group, content: Content) -> dict[str, Any]:
    baseline = content.baseline
    told: dict[str, Any] = {
        "label": group.label,
        "config": group.first.name,
        "distilled": group.distilled,
        "seeds": group.seeds,
        "figures": {metric: _figure(reached(group, metric)) for metric in _METRICS},
        "runs": [_run(run) for run in group.runs],
    }
    if baseline is not None and group is not baseline:
        told["differences"] = {metric: _figure(gain(group, baseline, metric)) for metric in _METRICS}
        told["share_of_gap_closed"] = {
            metric: closed(group, baseline, content.evaluation, metric) for metric in _METRICS
        }
    return told


def _run(run: Run) -> dict[str, Any]:
    return {
        "work_dir": str(run.work_dir),
        "checkpoint": None if run.checkpoint is None else str(run.checkpoint),
        "seed": run.seed,
        "reached": run.log.reached,
        "end": run.end,
        "unit": run.unit,
        "pictures_a_step": run.batch,
        "seconds_a_step": run.step_seconds,
        "hardware": run.hardware,
        "validation": run.log.validation,
        "losses": run.losses,
    }


def _figure(figure: Figure | None) -> dict[str, float | None] | None:
    return None if figure is None else figure._asdict()
