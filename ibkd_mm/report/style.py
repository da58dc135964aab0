"""How figures look: for print and for eyes that do not tell red from green."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours; markers and lines differ as well.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
TEACHER = "#4D4D4D"
_TEACHER_LINES = (":", (0, (1, 3)), (0, (1, 5)))

_LINES = ("-", "--", "-.", (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (7, 2)))
_WIDTH, _DPI = 6.4, 200
_LETTERS, _LINE = 90, 7
"""How many fit into the width, and what the line before a label takes."""
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}


class LeftOutError(Exception):
    """A part of a report for which there are no data, and why."""


def look(place: int) -> dict[str, Any]:
    """Give the colour, marker and line of the group at a place."""
    kinds = {"color": _COLOURS, "marker": _MARKERS, "linestyle": _LINES}
    return {name: values[place % len(values)] for name, values in kinds.items()}


def teacher_look(place: int) -> dict[str, Any]:
    """Give the line of the teacher at a place."""
    return {"color": TEACHER, "linestyle": _TEACHER_LINES[place % len(_TEACHER_LINES)], "linewidth": 1.6}


@contextmanager
def panels(
    path: Path, said: str, count: int, columns: int, height: float, legend: Sequence[str]
) -> Iterator[list[Axes]]:
    """Yield the panels of a figure to draw into, and write it, with one legend above all of them.

    Args:
        path: of the PNG.
        said: of the figure; kept inside the file.
        count: of panels.
        columns: of panels beside each other.
        height: of a row, in inches.
        legend: labels, in their order.
    """
    rows = -(-count // columns)
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, rows * height + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
        for spare in axes[count:]:
            spare.remove()
        yield axes[:count]
        handles: dict[str, Any] = {}
        for one in axes[:count]:
            handles |= {label: handle for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
        known = [label for label in legend if label in handles]
        across = _across(known)
        shown = [handles[label] for label in known]
        figure.legend(shown, known, loc="outside upper center", ncols=across)
        figure.savefig(path, dpi=_DPI, metadata={"Description": said})


def _across(labels: Sequence[str]) -> int:
    """Tell how many labels fit beside each other: a letter takes about a hundredth of the width."""
    widths = [len(label) + _LINE for label in labels]
    return len(labels) if sum(widths) <= _LETTERS else max(1, _LETTERS // max(widths))
