"""Line charts of validation metrics and loss terms over a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ibkd_mm.report.comparison import FIGURES, KINDS, MeanStd, mean_curve
from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResult
from ibkd_mm.report.plot_style import NoDataError, group_style, panels, teacher_style
from ibkd_mm.report.scalars import Curve

_PLOTTED = ("AP", "AP50", "AP75")
_MAX_TERMS = 18
_TITLE_LETTERS = 26
"""Number of letters that fit above a panel at the full font size."""
_STUDENT_PREFIX = "student."
"""mmrazor's prefix of the losses that the student has without a teacher too."""


def plot_learning_curves(
    groups: Sequence[Group], teachers: Mapping[str, ModelResult], path: Path, description: str
) -> None:
    """Plot mask and box AP over the training, with the deviation over seeds and each teacher's level."""
    panel_curves = {
        (f"{kind} {figure}", prefix + FIGURES[figure]): _validation_curves(groups, prefix + FIGURES[figure])
        for kind, prefix in KINDS.items()
        for figure in _PLOTTED
    }
    panel_curves = {panel: curves for panel, curves in panel_curves.items() if any(curves.values())}
    if not panel_curves:
        raise NoDataError("no validation measured mask or box AP.")
    if all(len(points) < 2 for curves in panel_curves.values() for points in curves.values()):
        raise NoDataError("each training was validated once, at its end (train_cfg.val_interval).")
    legend, count = [*(group.label for group in groups), *teachers], len(panel_curves)
    with panels(path, description, count, min(count, len(_PLOTTED)), 2.0, legend) as all_axes:
        for axes, ((title, metric), curves) in zip(all_axes, panel_curves.items(), strict=True):
            for index, (label, points) in enumerate(curves.items()):
                _draw_line(axes, {step: value.percent for step, value in points.items()}, label, index)
            for index, (label, teacher) in enumerate(teachers.items()):
                if metric in teacher.metrics:
                    axes.axhline(100 * teacher.metrics[metric], label=label, **teacher_style(index))
            unit = groups[0].first.unit
            axes.set(title=title, xlabel=unit, ylabel="AP (%)", xlim=(0, None), ylim=(0, None))


def plot_loss_terms(groups: Sequence[Group], path: Path, description: str) -> list[str]:
    """Plot each loss term, a distilled student's own one with the baseline's; return the omitted terms."""
    losses = {group.label: [_without_prefix(run.losses) for run in group.runs] for group in groups}
    names = list(dict.fromkeys(name for runs in losses.values() for run in runs for name in run))
    if not names:
        raise NoDataError("no training has logged a loss term yet.")
    # terms that only a distillation has come first, so that they are never omitted
    names.sort(key=lambda name: all(name in runs[0] for runs in losses.values()))
    plotted = names[:_MAX_TERMS]
    with panels(path, description, len(plotted), min(len(plotted), 3), 1.75, list(losses)) as all_axes:
        for axes, name in zip(all_axes, plotted, strict=True):
            for index, (label, runs) in enumerate(losses.items()):
                if all(name in run for run in runs):
                    _draw_line(axes, mean_curve([run[name] for run in runs]), label, index, markers=False)
            axes.set(xlabel="step", ylabel="loss", xlim=(0, None), ylim=(0, None))
            axes.set_title(name, fontsize=min(9.0, _TITLE_LETTERS * 9 / len(name)))
    return names[_MAX_TERMS:]


def _without_prefix(losses: Mapping[str, Curve]) -> dict[str, Curve]:
    return {name.removeprefix(_STUDENT_PREFIX): curve for name, curve in losses.items()}


def _validation_curves(groups: Sequence[Group], metric: str) -> dict[str, dict[int, MeanStd]]:
    return {
        group.label: mean_curve([run.log.validation.get(metric, {}) for run in group.runs])
        for group in groups
    }


def _draw_line(
    axes: Axes, points: Mapping[int, MeanStd], label: str, index: int, markers: bool = True
) -> None:
    style = group_style(index)
    if not markers and len(points) > 1:
        style.pop("marker")
    steps, means = list(points), [point.mean for point in points.values()]
    deviations = [point.std or 0.0 for point in points.values()]
    axes.plot(steps, means, label=label, **style)
    if any(deviations):
        low, high = (
            [value + sign * std for value, std in zip(means, deviations, strict=True)] for sign in (-1, 1)
        )
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
