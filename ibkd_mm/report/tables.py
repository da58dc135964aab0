"""The tables of a report, as text."""

from collections.abc import Sequence

from ibkd_mm.report.comparison import FIGURES, KINDS, Figure, gain, reached, share_closed
from ibkd_mm.report.evaluated import Evaluation
from ibkd_mm.report.groups import Group
from ibkd_mm.report.page import Table
from ibkd_mm.report.style import LeftOutError

_NONE = "-"


def ap_table(groups: Sequence[Group], baseline: Group | None, evaluation: Evaluation, kind: str) -> Table:
    """Set the models beside each other by mask or box AP, in percent, with gains and shares of the gap."""
    metrics = {name: KINDS[kind] + metric for name, metric in FIGURES.items()}
    if all(reached(group, metric) is None for group in groups for metric in metrics.values()):
        raise LeftOutError(f"no validation measured {kind} AP.")
    rows = []
    for group in groups:
        rows.append([group.label, *(_figure(reached(group, metric)) for metric in metrics.values())])
        if baseline is not None and group is not baseline:
            gains = {metric: gain(group, baseline, metric) for metric in metrics.values()}
            rows.append([f"{group.label} - {baseline.label}", *(_signed(one) for one in gains.values())])
        if baseline is not None and evaluation.teacher(group.label) is not None:
            shares = [closed(group, baseline, evaluation, metric) for metric in metrics.values()]
            rows.append([f"{group.label}: share of the teacher's gap", *map(_share, shares)])
    for label, teacher in evaluation.teachers.items():
        known = [teacher.metrics.get(metric) for metric in metrics.values()]
        rows.append([label, *(_NONE if value is None else f"{100 * value:.1f}" for value in known)])
    return Table([f"{kind}, %", *metrics], rows)


def closed(group: Group, baseline: Group, evaluation: Evaluation, metric: str) -> float | None:
    """Give the share of the way from the baseline to its teacher that a group went."""
    teacher = evaluation.teacher(group.label)
    ours, theirs = reached(group, metric), reached(baseline, metric)
    if teacher is None or ours is None or theirs is None:
        return None
    return share_closed(ours.mean, theirs.mean, teacher.metrics.get(metric))


def speed_table(evaluation: Evaluation) -> Table:
    """Set parameters and milliseconds of the models beside each other."""
    if not evaluation.speeds:
        raise LeftOutError(evaluation.lacking or "no model could be timed.")
    header = ["one picture", "parameters", "network, ms", "ratio", "whole pipeline, ms"]
    rows = [
        [
            speed.name,
            f"{speed.parameters / 1e6:.2f} M",
            f"{speed.network_ms:.1f}",
            f"{speed.ratio:.2f}",
            _NONE if speed.pipeline_ms is None else f"{speed.pipeline_ms:.1f}",
        ]
        for speed in evaluation.speeds
    ]
    return Table(header, rows)


def run_table(groups: Sequence[Group]) -> Table:
    """Name every training with where its files are."""
    header = ["training", "config", "seed", "length", "pictures a step", "s a step", "hardware", "work dir"]
    rows = [
        [
            group.label,
            run.name,
            _NONE if run.seed is None else str(run.seed),
            f"{run.log.reached:,} of {run.end:,} {run.unit}s",
            str(run.batch),
            _NONE if run.step_seconds is None else f"{run.step_seconds:.2f}",
            run.hardware,
            str(run.work_dir),
        ]
        for group in groups
        for run in group.runs
    ]
    return Table(header, rows)


def as_text(table: Table) -> str:
    """Lay a table out for a terminal."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in lines
    )
    return "\n".join(row.rstrip() for row in rows)


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return _NONE
    spread = "" if figure.spread is None else f" ± {100 * figure.spread:.1f}"
    return f"{100 * figure.mean:.1f}{spread}"


def _signed(figure: Figure | None) -> str:
    text = _figure(figure)
    return f"+{text}" if figure is not None and not text.startswith("-") else text


def _share(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.0f} %"
