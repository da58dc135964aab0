"""Bar charts of AP by instance size and by class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ibkd_mm.report.comparison import FIGURES, KINDS, MeanStd, final_metric
from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResult
from ibkd_mm.report.plot_style import TEACHER_COLOR, NoDataError, group_style, panels

_SIZES = {"S": "small", "M": "medium", "L": "large"}
_MAX_CLASSES = 24
_GROUP_WIDTH = 0.8

Bars = dict[str, dict[str, MeanStd]]
"""Percentages, by model and tick label."""


def plot_ap_by_size(
    groups: Sequence[Group], teachers: Mapping[str, ModelResult], path: Path, description: str
) -> None:
    """Plot mask and box AP of small, medium and large instances, with the standard deviation over seeds."""
    kinds = {kind: _size_bars(groups, teachers, prefix) for kind, prefix in KINDS.items()}
    plotted = {kind: bars for kind, bars in kinds.items() if any(bars.values())}
    if not plotted:
        raise NoDataError("no validation measured AP by size.")
    legend = [*(group.label for group in groups), *teachers]
    with panels(path, description, len(plotted), len(plotted), 2.2, legend) as all_axes:
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
    if not students or not names:
        raise NoDataError("no model was evaluated by an evaluator that reports AP by class.")

    def difference(name: str) -> float:
        values = [class_ap[name] for class_ap in students if name in class_ap]
        return max(values, default=0.0) - min(values, default=0.0)

    plotted = set(sorted(names, key=difference, reverse=True)[:_MAX_CLASSES])
    bars: Bars = {
        label: {
            name: MeanStd(100 * by_model[label][name], None)
            for name in names
            if name in plotted and name in by_model[label]
        }
        for label in dict.fromkeys((*labels, *by_model))
        if label in by_model
    }
    with panels(path, description, 1, 1, 2.6, list(bars)) as (axes,):
        _draw_bars(axes, bars, len(students))
        axes.set(ylabel="mask AP (%)", xlabel="class")
    return [name for name in names if name not in plotted]


def _size_bars(groups: Sequence[Group], teachers: Mapping[str, ModelResult], prefix: str) -> Bars:
    metrics = {name: prefix + FIGURES[size] for size, name in _SIZES.items()}
    bars: Bars = {}
    models: dict[str, Group | ModelResult] = {**{group.label: group for group in groups}, **teachers}
    for label, model in models.items():
        values = {name: final_metric(model, metric) for name, metric in metrics.items()}
        bars[label] = {name: value.percent for name, value in values.items() if value is not None}
    return bars


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
    rotated = sum(map(len, names)) > 60
    axes.set_xticks(
        range(len(names)), names, rotation=45 if rotated else 0, ha="right" if rotated else "center"
    )
    axes.grid(visible=False, axis="x")
