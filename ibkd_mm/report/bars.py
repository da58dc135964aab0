"""Figures of what was reached: by size of the instances, and by class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ibkd_mm.report.comparison import FIGURES, KINDS, Figure, reached
from ibkd_mm.report.evaluated import Evaluated
from ibkd_mm.report.groups import Group
from ibkd_mm.report.style import TEACHER, LeftOutError, look, panels

_SIZES = {"S": "small", "M": "medium", "L": "large"}
_MOST_CLASSES = 24
_FILLED = 0.8

Bars = dict[str, dict[str, Figure]]
"""In percent, by model and place on the axis."""


def by_size(groups: Sequence[Group], teachers: Mapping[str, Evaluated], path: Path, said: str) -> None:
    """Draw mask and box AP of small, medium and large instances, with the seeds' spread."""
    kinds = {kind: _sizes(groups, teachers, prefix) for kind, prefix in KINDS.items()}
    drawn = {kind: bars for kind, bars in kinds.items() if any(bars.values())}
    if not drawn:
        raise LeftOutError("no validation measured AP by size.")
    legend = [*(group.label for group in groups), *teachers]
    with panels(path, said, len(drawn), len(drawn), 2.2, legend) as sheet:
        for axes, (kind, bars) in zip(sheet, drawn.items(), strict=True):
            _bars(axes, bars, len(groups))
            axes.set(title=f"{kind} AP by size", ylabel="AP (%)", xlabel="instances")


def by_class(models: Mapping[str, Evaluated], labels: Sequence[str], path: Path, said: str) -> list[str]:
    """Draw mask AP of every class; return those left out, in which the models differ least.

    Args:
        models: by label.
        labels: of the students among them, in their order.
        path: of the picture.
        said: of it.
    """
    known = {label: model.classes for label, model in models.items() if model.classes}
    names = list(dict.fromkeys(name for classes in known.values() for name in classes))
    if not any(label in known for label in labels) or not names:
        raise LeftOutError("no model was evaluated by an evaluator that tells AP by class.")
    students = [known[label] for label in labels if label in known]

    def apart(name: str) -> float:
        values = [classes[name] for classes in students if name in classes]
        return max(values, default=0.0) - min(values, default=0.0)

    shown = sorted(names, key=apart, reverse=True)[:_MOST_CLASSES]
    rest = [name for name in names if name not in shown]
    bars = {
        label: {
            name: Figure(100 * classes[name], None) for name in names if name in shown and name in classes
        }
        for label, classes in known.items()
    }
    ordered = {label: bars[label] for label in (*labels, *bars) if label in bars}
    with panels(path, said, 1, 1, 2.6, list(ordered)) as (axes,):
        _bars(axes, ordered, len(students))
        axes.set(ylabel="mask AP (%)", xlabel="class")
    return rest


def _sizes(groups: Sequence[Group], teachers: Mapping[str, Evaluated], prefix: str) -> Bars:
    bars: Bars = {}
    for group in groups:
        found = {name: reached(group, prefix + FIGURES[size]) for size, name in _SIZES.items()}
        bars[group.label] = {name: figure.percent for name, figure in found.items() if figure is not None}
    for label, teacher in teachers.items():
        metrics = {name: teacher.metrics.get(prefix + FIGURES[size]) for size, name in _SIZES.items()}
        bars[label] = {
            name: Figure(100 * value, None) for name, value in metrics.items() if value is not None
        }
    return bars


def _bars(axes: Axes, bars: Bars, students: int) -> None:
    """Draw groups of bars; those behind the students are teachers'."""
    looks = {label: look(place)["color"] if place < students else TEACHER for place, label in enumerate(bars)}
    bars = {label: values for label, values in bars.items() if values}
    names = list(dict.fromkeys(name for values in bars.values() for name in values))
    width = _FILLED / len(bars)
    for place, (label, values) in enumerate(bars.items()):
        at = [names.index(name) + (place - (len(bars) - 1) / 2) * width for name in values]
        axes.bar(
            at,
            [figure.mean for figure in values.values()],
            width * 0.92,
            label=label,
            color=looks[label],
            yerr=[figure.spread or 0.0 for figure in values.values()] if _spread(values) else None,
            error_kw={"capsize": 2, "elinewidth": 1},
        )
    crowded = sum(map(len, names)) > 60
    axes.set_xticks(
        range(len(names)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center"
    )
    axes.grid(visible=False, axis="x")


def _spread(values: Mapping[str, Figure]) -> bool:
    return any(figure.spread for figure in values.values())
