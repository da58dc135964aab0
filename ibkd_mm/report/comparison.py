"""Metrics over seeds, gains over the baseline, and the closed part of the gap to the teacher."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResult, ModelResults
from ibkd_mm.report.scalars import Curve

KINDS = {"mask": "coco/segm_", "box": "coco/bbox_"}
FIGURES = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "S": "mAP_s", "M": "mAP_m", "L": "mAP_l"}


class MeanStd(NamedTuple):
    """Mean and standard deviation (n - 1) over seeds; the deviation is None for a single seed."""

    mean: float
    std: float | None

    @property
    def percent(self) -> "MeanStd":
        """Both times a hundred."""
        return MeanStd(100 * self.mean, None if self.std is None else 100 * self.std)


def mean_std(values: Sequence[float]) -> MeanStd:
    """Return mean and standard deviation of one value per seed."""
    return MeanStd(mean(values), stdev(values) if len(values) > 1 else None)


def final_metric(model: Group | ModelResult, metric: str) -> MeanStd | None:
    """Return a metric of a model, or of the last validation over seeds; None if one has no such metric."""
    sources = [model.metrics] if isinstance(model, ModelResult) else [run.last for run in model.runs]
    if not all(metric in metrics for metrics in sources):
        return None
    return mean_std([metrics[metric] for metrics in sources])


def gain(group: Group, baseline: Group, metric: str) -> MeanStd | None:
    """Return the gain over the baseline: seed by seed if the seeds are the same, else of the means alone."""
    ours, theirs = final_metric(group, metric), final_metric(baseline, metric)
    if ours is None or theirs is None:
        return None
    if group.seeds != baseline.seeds:
        return MeanStd(ours.mean - theirs.mean, None)
    pairs = zip(group.runs, baseline.runs, strict=True)
    return mean_std([run.last[metric] - base.last[metric] for run, base in pairs])


def gap_closed(group: Group, baseline: Group, results: ModelResults, metric: str) -> float | None:
    """Return the part of the gap between the baseline and the group's teacher that the group closed."""
    teacher = results.teacher(group.label)
    ours, theirs = final_metric(group, metric), final_metric(baseline, metric)
    if teacher is None or ours is None or theirs is None:
        return None
    return closed_ratio(ours.mean, theirs.mean, teacher.metrics.get(metric))


def closed_ratio(distilled: float, baseline: float, teacher: float | None) -> float | None:
    """Return (distilled - baseline) / (teacher - baseline); None if the teacher is not above the baseline."""
    if teacher is None or teacher <= baseline:
        return None
    return (distilled - baseline) / (teacher - baseline)


def mean_curve(curves: Sequence[Curve]) -> dict[int, MeanStd]:
    """Return mean and deviation of several seeds' curves at the steps that all of them have."""
    common = set.intersection(*map(set, curves)) if curves else set()
    return {step: mean_std([curve[step] for curve in curves]) for step in sorted(common)}
