"""Figures over seeds, differences, and how much of the way to the teacher was gone."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from ibkd_mm.report.groups import Group
from ibkd_mm.report.scalars import Curve

KINDS = {"mask": "coco/segm_", "box": "coco/bbox_"}
FIGURES = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "S": "mAP_s", "M": "mAP_m", "L": "mAP_l"}


class Figure(NamedTuple):
    """The mean over seeds, and their standard deviation (n - 1) where there are several."""

    mean: float
    spread: float | None

    @property
    def percent(self) -> "Figure":
        """The same times a hundred."""
        return Figure(100 * self.mean, None if self.spread is None else 100 * self.spread)


def over_seeds(values: Sequence[float]) -> Figure:
    """Sum up what several seeds gave."""
    return Figure(mean(values), stdev(values) if len(values) > 1 else None)


def reached(group: Group, metric: str) -> Figure | None:
    """Sum up a metric at the last validation; None where a run has none."""
    values = [run.last.get(metric) for run in group.runs]
    known = [value for value in values if value is not None]
    return over_seeds(known) if known and len(known) == len(values) else None


def gain(group: Group, baseline: Group, metric: str) -> Figure | None:
    """Give the difference to the baseline: seed by seed where both have the same, else of the means alone."""
    ours, theirs = reached(group, metric), reached(baseline, metric)
    if ours is None or theirs is None:
        return None
    if group.seeds != baseline.seeds:
        return Figure(ours.mean - theirs.mean, None)
    pairs = zip(group.runs, baseline.runs, strict=True)
    return over_seeds([one.last[metric] - other.last[metric] for one, other in pairs])


def share_closed(distilled: float, baseline: float, teacher: float | None) -> float | None:
    """Give the part of the way from the baseline to the teacher; None where there is no such way."""
    if teacher is None or teacher <= baseline:
        return None
    return (distilled - baseline) / (teacher - baseline)


def band(curves: Sequence[Curve]) -> dict[int, Figure]:
    """Sum up curves of several seeds at the steps that all have."""
    common = set.intersection(*map(set, curves)) if curves else set()
    return {step: over_seeds([curve[step] for curve in curves]) for step in sorted(common)}
