"""Style of the report's charts: for print, and readable with red-green colour blindness."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_GROUP_STYLES: dict[str, tuple[Any, ...]] = {
    "color": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),  # Okabe and Ito
    "marker": ("o", "s", "^", "D", "v", "P"),
    "linestyle": ("-", "--", "-.", (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (7, 2))),
}
TEACHER_COLOR = "#4D4D4D"
_TEACHER_LINES = (":", (0, (1, 3)), (0, (1, 5)))
_WIDTH, _DPI = 6.4, 200
_LEGEND_LETTERS, _HANDLE_LETTERS = 90, 7  # widths of a legend and of a label's line, in letters
_RC: dict[Any, Any] = {
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


class NoDataError(Exception):
    """A part of a report that cannot be shown, with the reason."""


def group_style(index: int) -> dict[str, Any]:
    """Return colour, marker and line style of a group."""
    return {name: values[index % len(values)] for name, values in _GROUP_STYLES.items()}


def teacher_style(index: int) -> dict[str, Any]:
    """Return colour and line style of a teacher."""
    return {"color": TEACHER_COLOR, "linestyle": _TEACHER_LINES[index % len(_TEACHER_LINES)]}


@contextmanager
def panels(
    path: Path, description: str, count: int, columns: int, height: float, legend: Sequence[str]
) -> Iterator[list[Axes]]:
    """Yield the axes of `count` panels to draw into, then write them as PNG with one legend above all.

    `description` is stored in the file, `height` is that of a row in inches, `legend` is the order of labels.
    """
    rows = -(-count // columns)
    with rc_context(_RC):
        figure = Figure(figsize=(_WIDTH, rows * height + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        all_axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
        for unused in all_axes[count:]:
            unused.remove()
        yield all_axes[:count]
        handles: dict[str, Any] = {}
        for axes in all_axes[:count]:
            handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        labels = [label for label in legend if label in handles]
        widths = [len(label) + _HANDLE_LETTERS for label in labels]
        fitting = len(labels) if sum(widths) <= _LEGEND_LETTERS else max(1, _LEGEND_LETTERS // max(widths))
        figure.legend([handles[label] for label in labels], labels, loc="outside upper center", ncols=fitting)
        figure.savefig(path, dpi=_DPI, metadata={"Description": description})
