"""Figures of how trainings went: what validations measured, and the terms of the loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ibkd_mm.report.comparison import FIGURES, KINDS, Figure, band
from ibkd_mm.report.evaluated import Evaluated
from ibkd_mm.report.groups import Group
from ibkd_mm.report.scalars import Curve
from ibkd_mm.report.style import LeftOutError, look, panels, teacher_look

_SHOWN = ("AP", "AP50", "AP75")
_MOST_TERMS = 18
_TITLE_LETTERS = 26
"""As many fit above a panel in the size of the others."""
_STUDENTS = "student."
"""What mmrazor puts before the name of a loss that the student has without a teacher too."""


def learning_curves(
    groups: Sequence[Group], teachers: Mapping[str, Evaluated], path: Path, said: str
) -> None:
    """Draw mask and box AP over the training, with the seeds' spread and each teacher's level."""
    metrics = {
        f"{kind} {figure}": prefix + FIGURES[figure] for kind, prefix in KINDS.items() for figure in _SHOWN
    }
    drawn = {title: name for title, name in metrics.items() if any(_bands(groups, name).values())}
    if not drawn:
        raise LeftOutError("no validation measured mask or box AP.")
    if all(len(points) < 2 for name in drawn.values() for points in _bands(groups, name).values()):
        raise LeftOutError("each training was validated once, at its end (train_cfg.val_interval).")
    legend = [*(group.label for group in groups), *teachers]
    with panels(path, said, len(drawn), min(len(drawn), len(_SHOWN)), 2.0, legend) as sheet:
        for axes, (title, name) in zip(sheet, drawn.items(), strict=True):
            for place, (label, points) in enumerate(_bands(groups, name).items()):
                _draw(axes, {at: value.percent for at, value in points.items()}, label, place)
            for place, (label, teacher) in enumerate(teachers.items()):
                if name in teacher.metrics:
                    axes.axhline(100 * teacher.metrics[name], label=label, **teacher_look(place))
            axes.set(
                title=title, xlabel=groups[0].first.unit, ylabel="AP (%)", xlim=(0, None), ylim=(0, None)
            )


def loss_terms(groups: Sequence[Group], path: Path, said: str) -> list[str]:
    """Draw each term of the loss, a distilled student's own beside the baseline's; return those left out."""
    curves = {group.label: [_terms(run.losses) for run in group.runs] for group in groups}
    names = list(dict.fromkeys(name for runs in curves.values() for run in runs for name in run))
    if not names:
        raise LeftOutError("no training has logged a term of its loss yet.")
    # what only a distillation has comes first, so that it is never what is left out
    names.sort(key=lambda name: all(name in runs[0] for runs in curves.values()))
    shown = names[:_MOST_TERMS]
    with panels(path, said, len(shown), min(len(shown), 3), 1.75, list(curves)) as sheet:
        for axes, name in zip(sheet, shown, strict=True):
            for place, (label, runs) in enumerate(curves.items()):
                if all(name in run for run in runs):
                    _draw(axes, band([run[name] for run in runs]), label, place, marked=False)
            axes.set(xlabel="step", ylabel="loss", xlim=(0, None), ylim=(0, None))
            axes.set_title(name, fontsize=min(9.0, _TITLE_LETTERS * 9 / len(name)))
    return names[_MOST_TERMS:]


def _terms(losses: Mapping[str, Curve]) -> dict[str, Curve]:
    return {name.removeprefix(_STUDENTS): curve for name, curve in losses.items()}


def _bands(groups: Sequence[Group], name: str) -> dict[str, dict[int, Figure]]:
    return {group.label: band([run.log.validation.get(name, {}) for run in group.runs]) for group in groups}


def _draw(axes: Axes, points: Mapping[int, Figure], label: str, place: int, marked: bool = True) -> None:
    looks = look(place)
    if not marked and len(points) > 1:
        looks.pop("marker")
    steps, means = list(points), [point.mean for point in points.values()]
    spreads = [point.spread or 0.0 for point in points.values()]
    axes.plot(steps, means, label=label, **looks)
    if any(spreads):
        low, high = (
            [value + sign * spread for value, spread in zip(means, spreads, strict=True)] for sign in (-1, 1)
        )
        axes.fill_between(steps, low, high, color=looks["color"], alpha=0.2, linewidth=0)
