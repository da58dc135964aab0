"""Charts of AP over a training, by instance size and by class, and of the loss terms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ibkd_mm.report.comparison import FIGURES, KINDS, MeanStd, final_metric, mean_curve
from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResult
from ibkd_mm.report.plot_style import TEACHER_COLOR, NoDataError, group_style, panels, teacher_style

_PLOTTED = ("AP", "AP50", "AP75")
_SIZES = {"S": "small", "M": "medium", "L": "large"}
_MAX_CLASSES, _MAX_TERMS = 24, 18
_GROUP_WIDTH = 0.8
_TITLE_LETTERS = 26  # that fit above a panel at the full font size
_STUDENT_PREFIX = "student."  # mmrazor's, of the losses that the student has without a teacher too

Bars = dict[str, dict[str, MeanStd]]  # percentages, by model and tick label


def plot_learning_curves(
    groups: Sequence[Group], teachers: Mapping[str, ModelResult], path: Path, description: str
) -> None:
    """Plot mask and box AP over the training, with the deviation over seeds and each teacher's level."""
    metrics = {
        f"{kind} {name}": prefix + FIGURES[name] for kind, prefix in KINDS.items() for name in _PLOTTED
    }
    panel_curves = {
        title: {
            group.label: mean_curve([run.log.validation.get(metric, {}) for run in group.runs])
            for group in groups
        }
        for title, metric in metrics.items()
    }
    panel_curves = {title: curves for title, curves in panel_curves.items() if any(curves.values())}
    if not panel_curves:
        raise NoDataError("no validation measured mask or box AP.")
    if all(len(points) < 2 for curves in panel_curves.values() for points in curves.values()):
        raise NoDataError("each training was validated once, at its end (train_cfg.val_interval).")
    legend, count = [*(group.label for group in groups), *teachers], len(panel_curves)
    with panels(path, description, count, min(count, len(_PLOTTED)), 2.0, legend) as all_axes:
        for axes, (title, curves) in zip(all_axes, panel_curves.items(), strict=True):
            for index, (label, points) in enumerate(curves.items()):
                _draw_line(axes, {step: value.percent for step, value in points.items()}, label, index)
            for index, (label, teacher) in enumerate(teachers.items()):
                if (value := teacher.metrics.get(metrics[title])) is not None:
                    axes.axhline(100 * value, label=label, **teacher_style(index))
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


def plot_ap_by_size(
    groups: Sequence[Group], teachers: Mapping[str, ModelResult], path: Path, description: str
) -> None:
    """Plot mask and box AP of small, medium and large instances, with the standard deviation over seeds."""
    models: dict[str, Group | ModelResult] = {**{group.label: group for group in groups}, **teachers}
    kinds = {
        kind: {label: _size_bars(model, prefix) for label, model in models.items()}
        for kind, prefix in KINDS.items()
    }
    plotted = {kind: bars for kind, bars in kinds.items() if any(bars.values())}
    if not plotted:
        raise NoDataError("no validation measured AP by size.")
    with panels(path, description, len(plotted), len(plotted), 2.2, list(models)) as all_axes:
        for axes, (kind, bars) in zip(all_axes, plotted.items(), strict=True):
            _draw_bars(axes, bars, len(groups))
            axes.set(title=f"{kind} AP by size", ylabel="AP (%)", xlabel="instances")


def plot_ap_by_class(
    models: Mapping[str, ModelResult], labels: Sequence[str], path: Path, description: str
) -> list[str]:
    """Plot mask AP of the classes in which the students (`labels`) differ most; return the other classes."""
    by_model = {label: model.class_ap for label, model in models.items() if model.class_ap}
    names = list(dict.fromkeys(name for class_ap in by_model.values() for name in class_ap))
    students = [by_model[label] for label in labels if label in by_model]
    if not students:
        raise NoDataError("no model was evaluated by an evaluator that reports AP by class.")
    found = {name: [class_ap[name] for class_ap in students if name in class_ap] or [0.0] for name in names}
    ordered = sorted(names, key=lambda name: max(found[name]) - min(found[name]), reverse=True)
    plotted = [name for name in names if name in ordered[:_MAX_CLASSES]]
    bars: Bars = {
        label: {
            name: MeanStd(100 * by_model[label][name], None) for name in plotted if name in by_model[label]
        }
        for label in dict.fromkeys((*labels, *by_model))
        if label in by_model
    }
    with panels(path, description, 1, 1, 2.6, list(bars)) as (axes,):
        _draw_bars(axes, bars, len(students))
        axes.set(ylabel="mask AP (%)", xlabel="class")
    return [name for name in names if name not in plotted]


def _without_prefix(losses: Mapping[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    return {name.removeprefix(_STUDENT_PREFIX): curve for name, curve in losses.items()}


def _draw_line(axes: Axes, points: dict[int, MeanStd], label: str, index: int, markers: bool = True) -> None:
    style = group_style(index)
    if not markers and len(points) > 1:
        style.pop("marker")
    steps, means = list(points), [point.mean for point in points.values()]
    deviations = [point.std or 0.0 for point in points.values()]
    axes.plot(steps, means, label=label, **style)
    if any(deviations):
        low = [value - std for value, std in zip(means, deviations, strict=True)]
        high = [value + std for value, std in zip(means, deviations, strict=True)]
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _size_bars(model: Group | ModelResult, prefix: str) -> dict[str, MeanStd]:
    values = {name: final_metric(model, prefix + FIGURES[size]) for size, name in _SIZES.items()}
    return {name: value.percent for name, value in values.items() if value is not None}


def _draw_bars(axes: Axes, bars: Bars, students: int) -> None:
    """Draw grouped bars; the models behind the first `students` ones are teachers."""
    colors = {
        label: group_style(index)["color"] if index < students else TEACHER_COLOR
        for index, label in enumerate(bars)
    }
    bars = {label: values for label, values in bars.items() if values}
    names = list(dict.fromkeys(name for values in bars.values() for name in values))
    width = _GROUP_WIDTH / len(bars)
    for index, (label, values) in enumerate(bars.items()):
        deviations = [value.std or 0.0 for value in values.values()]
        axes.bar(
            [names.index(name) + (index - (len(bars) - 1) / 2) * width for name in values],
            [value.mean for value in values.values()],
            width * 0.92,
            label=label,
            color=colors[label],
            yerr=deviations if any(deviations) else None,
            error_kw={"capsize": 2, "elinewidth": 1},
        )
    rotation: dict[str, Any] = {"rotation": 45, "ha": "right"} if sum(map(len, names)) > 60 else {}
    axes.set_xticks(range(len(names)), names, **rotation)
    axes.grid(visible=False, axis="x")
