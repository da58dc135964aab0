"""Write a report: a self-contained page, its charts as PNGs, and all numbers as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ibkd_mm.report import page
from ibkd_mm.report.comparison import FIGURES, KINDS, MeanStd, final_metric, gain, gap_closed
from ibkd_mm.report.groups import Group
from ibkd_mm.report.plot_style import NoDataError
from ibkd_mm.report.sections import Content, find_old_images, format_seeds, page_sections
from ibkd_mm.report.training_run import Run
from ibkd_mm.utils.atomic import atomic_write

_METRICS = [prefix + figure for prefix in KINDS.values() for figure in FIGURES.values()]
PAGE, NUMBERS = "index.html", "report.json"


def write_report(folder: Path, content: Content) -> Path:
    """Write page, charts and numbers into a folder and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in find_old_images(folder):
        path.unlink()
    sections = [("", _introduction(content))]
    for title, make in page_sections(folder, content).items():
        try:
            sections.append((title, make()))
        except NoDataError as reason:
            sections.append((title, page.note(f"Not shown: {reason}")))
    with atomic_write(folder / NUMBERS) as partial:
        partial.write_text(json.dumps(_to_dict(content), indent=1))
    with atomic_write(folder / PAGE) as partial:
        partial.write_text(page.page("Did distillation help?", sections))
    return folder / PAGE


def _introduction(content: Content) -> str:
    groups = [f"{group.label}: {group.first.name}, {format_seeds(group)}" for group in content.groups]
    parts = page.paragraph("; ".join(groups) + ".")
    if content.differences:
        title = "Not a fair comparison: more than the teacher differs."
        parts += page.warning(title, content.differences)
    if content.results.missing:
        parts += page.note(content.results.missing)
    return parts


def _to_dict(content: Content) -> dict[str, Any]:
    results = content.results
    return {
        "command": content.command,
        "unequal": list(content.differences),
        "left_out": results.missing or None,
        "groups": [_group(group, content) for group in content.groups],
        "evaluated": {
            label: {"metrics": model.metrics, "mask_ap_by_class": model.class_ap}
            for label, model in results.models.items()
        },
        "teacher_of": results.teacher_of,
        "speeds": [asdict(speed) for speed in results.speeds],
        "hardware": results.hardware or None,
    }


def _group(group: Group, content: Content) -> dict[str, Any]:
    baseline = content.baseline
    numbers: dict[str, Any] = {
        "label": group.label,
        "config": group.first.name,
        "distilled": group.distilled,
        "seeds": group.seeds,
        "figures": {metric: _mean_std(final_metric(group, metric)) for metric in _METRICS},
        "runs": [_run(run) for run in group.runs],
    }
    if baseline is not None and group is not baseline:
        gains = {metric: gain(group, baseline, metric) for metric in _METRICS}
        numbers["differences"] = {metric: _mean_std(value) for metric, value in gains.items()}
        numbers["share_of_gap_closed"] = {
            metric: gap_closed(group, baseline, content.results, metric) for metric in _METRICS
        }
    return numbers


def _run(run: Run) -> dict[str, Any]:
    return {
        "work_dir": str(run.work_dir),
        "checkpoint": None if run.checkpoint is None else str(run.checkpoint),
        "seed": run.seed,
        "reached": run.log.reached,
        "end": run.end,
        "unit": run.unit,
        "images_per_step": run.batch,
        "seconds_per_step": run.step_seconds,
        "hardware": run.hardware,
        "validation": run.log.validation,
        "losses": run.losses,
    }


def _mean_std(value: MeanStd | None) -> dict[str, float | None] | None:
    return None if value is None else value._asdict()
