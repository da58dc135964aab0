"""Tables of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

from ibkd_mm.benchmark.table import align_columns
from ibkd_mm.report.comparison import FIGURES, KINDS, MeanStd, final_metric, gain, gap_closed
from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResults
from ibkd_mm.report.plot_style import NoDataError

_NONE = "-"


@dataclass(frozen=True)
class TextTable:
    """Rows of text under a header; as a str, aligned for a terminal."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        return align_columns([self.header, *self.rows])


def ap_table(groups: Sequence[Group], baseline: Group | None, results: ModelResults, kind: str) -> TextTable:
    """Return mask or box AP of all models in percent, with gains and closed gaps."""
    metrics = [KINDS[kind] + figure for figure in FIGURES.values()]
    values = {group.label: [final_metric(group, metric) for metric in metrics] for group in groups}
    if all(value is None for row in values.values() for value in row):
        raise NoDataError(f"no validation measured {kind} AP.")
    rows = []
    for group in groups:
        rows.append([group.label, *map(_format, values[group.label])])
        if baseline is not None and group is not baseline:
            gains = [gain(group, baseline, metric) for metric in metrics]
            rows.append([f"{group.label} - {baseline.label}", *(_format(value, "+") for value in gains)])
        if baseline is not None and results.teacher(group.label) is not None:
            closed = [gap_closed(group, baseline, results, metric) for metric in metrics]
            percents = (_NONE if ratio is None else f"{100 * ratio:.0f} %" for ratio in closed)
            rows.append([f"{group.label}: gap to the teacher closed", *percents])
    for label, teacher in results.teachers.items():
        rows.append([label, *(_format(final_metric(teacher, metric)) for metric in metrics)])
    return TextTable([f"{kind}, %", *FIGURES], rows)


def speed_table(results: ModelResults) -> TextTable:
    """Return parameters and milliseconds of the models."""
    if not results.speeds:
        raise NoDataError(results.missing or "no model could be timed.")
    rows = [
        [
            speed.name,
            f"{speed.parameters / 1e6:.2f} M",
            f"{speed.network_ms:.1f}",
            f"{speed.ratio:.2f}",
            _NONE if speed.pipeline_ms is None else f"{speed.pipeline_ms:.1f}",
        ]
        for speed in results.speeds
    ]
    return TextTable(["one image", "parameters", "network, ms", "ratio", "whole pipeline, ms"], rows)


def run_table(groups: Sequence[Group]) -> TextTable:
    """Return config, seed, length, hardware and folder of every run."""
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
    header = ["run", "config", "seed", "length", "images per step", "s per step", "hardware", "work dir"]
    return TextTable(header, rows)


def _format(value: MeanStd | None, sign: str = "") -> str:
    if value is None:
        return _NONE
    deviation = "" if value.std is None else f" ± {100 * value.std:.1f}"
    return f"{100 * value.mean:{sign}.1f}{deviation}"
