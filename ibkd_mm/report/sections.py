"""Content of a report, and the sections of its page: tables and charts with their notes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from ibkd_mm.report import page, tables
from ibkd_mm.report.charts import plot_ap_by_class, plot_ap_by_size, plot_learning_curves, plot_loss_terms
from ibkd_mm.report.comparison import KINDS
from ibkd_mm.report.groups import Group
from ibkd_mm.report.image_comparison import GROUND_TRUTH, compare_images
from ibkd_mm.report.model_results import ModelResults
from ibkd_mm.report.plot_style import NoDataError

_CURVES, _SIZES, _CLASSES, _LOSSES = "learning_curves.png", "sizes.png", "classes.png", "losses.png"
_IMAGES, _IMAGE_NAME = "images", re.compile(r"\d\d-\d+\.png")

_RESULTS_NOTE = (
    "Metrics of the last validation of each run. With several seeds: mean ± standard deviation (n - 1) over "
    "seeds; differences are taken seed by seed. S, M, L: COCO's small, medium and large instances."
)
_GAP_NOTE = (
    "Gap to the teacher closed: (distilled - baseline) / (teacher - baseline), of the means; - if the "
    "teacher is not above the baseline. The teacher is evaluated on the student's batches, renormalised for "
    "it, as during distillation."
)
_IMAGES_NOTE = (
    "The images with the largest difference in IoU between baseline and distilled, whichever is better. Each "
    "model shows its most confident instances, as many as the ground truth has. IoU: for each ground truth "
    "instance the best mask IoU of a shown instance of its class, averaged over the image."
)


@dataclass(frozen=True)
class Content:
    """Everything that a report shows; `differences` are those of the groups besides the teacher."""

    groups: Sequence[Group]
    results: ModelResults
    differences: Sequence[str]
    command: str

    @property
    def baseline(self) -> Group | None:
        """The group that the others are compared with, which is the first."""
        return None if self.groups[0].distilled else self.groups[0]

    @property
    def log_sources(self) -> str:
        """Seeds, length, hardware and folders of all groups."""
        return " ".join(map(_describe_runs, self.groups))

    @property
    def model_sources(self) -> str:
        """Checkpoints and hardware of the results of models."""
        files = "; ".join(f"{group.label}: {group.first.checkpoint}" for group in self.groups)
        return f"Last checkpoint of the first seed ({files}). Evaluated on: {self.results.hardware}."


def format_seeds(group: Group) -> str:
    """Format the seeds of a group."""
    known = [str(seed) for seed in group.seeds if seed is not None]
    return f"seed{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else "seed unknown"


def find_old_images(folder: Path) -> list[Path]:
    """Return the PNG files of an earlier report in a folder; other files there are not touched."""
    charts = [folder / name for name in (_CURVES, _SIZES, _CLASSES, _LOSSES)]
    images = [path for path in (folder / _IMAGES).glob("*.png") if _IMAGE_NAME.fullmatch(path.name)]
    return [path for path in (*charts, *images) if path.is_file()]


def page_sections(folder: Path, content: Content) -> dict[str, Callable[[], str]]:
    """Return a function per section title that makes its HTML, or raises NoDataError."""
    return {
        "Results": lambda: _results(content),
        "Learning curves": lambda: _learning_curves(folder / _CURVES, content),
        "AP by size": lambda: _sizes(folder / _SIZES, content),
        "AP by class": lambda: _classes(folder / _CLASSES, content),
        "Speed": lambda: _speed(content),
        "Images with the largest differences": lambda: _images(folder / _IMAGES, content),
        "Loss terms": lambda: _losses(folder / _LOSSES, content),
        "Training runs": lambda: _runs(content),
    }


def _describe_runs(group: Group) -> str:
    run = group.first
    folders = ", ".join(str(run.work_dir) for run in group.runs)
    hardware = "; ".join(dict.fromkeys(run.hardware for run in group.runs))
    length = f"{run.log.reached:,} {run.unit}s with {run.batch} images per step"
    label = group.label[0].upper() + group.label[1:]
    return f"{label}: {format_seeds(group)}, {length}, on {hardware}, from {folders}."


def _results(content: Content) -> str:
    made, notes = [], []
    for kind in KINDS:
        try:
            made.append(page.table(tables.ap_table(content.groups, content.baseline, content.results, kind)))
        except NoDataError as reason:
            notes.append(f"Not shown: {reason}")
    if not made:
        raise NoDataError("no validation measured mask or box AP.")
    notes.append(_RESULTS_NOTE)
    if content.baseline is None:
        notes.append("There is no training without a teacher, so there is nothing to compare with.")
    if content.results.teachers:
        notes.append(_GAP_NOTE)
    return "".join([*made, *map(page.note, [*notes, content.log_sources])])


def _learning_curves(path: Path, content: Content) -> str:
    plot_learning_curves(content.groups, content.results.teachers, path, content.log_sources)
    note = f"Bands: ± one standard deviation over seeds. {content.log_sources}"
    return page.figure(path, "Learning curves") + page.note(note)


def _sizes(path: Path, content: Content) -> str:
    plot_ap_by_size(content.groups, content.results.teachers, path, content.log_sources)
    note = f"Error bars: ± one standard deviation over seeds. {content.log_sources}"
    return page.figure(path, "AP by size") + page.note(note)


def _classes(path: Path, content: Content) -> str:
    if not content.results.models:
        raise NoDataError(content.results.missing)
    labels = [group.label for group in content.groups]
    omitted = plot_ap_by_class(content.results.models, labels, path, content.model_sources)
    note = content.model_sources
    if omitted:
        note += f" Not plotted: {len(omitted)} classes with the smallest differences; see report.json."
    return page.figure(path, "AP by class") + page.note(note)


def _losses(path: Path, content: Content) -> str:
    omitted = plot_loss_terms(content.groups, path, content.log_sources)
    note = f"Weighted losses, averaged over the logging interval. {content.log_sources}"
    if omitted:
        note += f" Not plotted: {', '.join(omitted)}; see report.json."
    return page.figure(path, "Loss terms") + page.note(note)


def _speed(content: Content) -> str:
    return page.table(tables.speed_table(content.results)) + page.note(
        "Medians over rounds in which each model runs once on the same validation image. Parameters are the "
        f"deployed model's. {content.model_sources}"
    )


def _images(folder: Path, content: Content) -> str:
    results = content.results
    if content.baseline is None or not results.models:
        raise NoDataError(results.missing or "there is no baseline to compare with.")
    distilled = [group.label for group in content.groups if group.distilled]
    compared = compare_images(results, content.baseline.label, distilled)
    folder.mkdir(exist_ok=True)
    labels = sorted(set().union(*(image.labels for image in compared)))
    parts = [
        page.note(f"{_IMAGES_NOTE} {content.model_sources}"),
        page.legend({results.classes[label]: results.palette[label] for label in labels}),
    ]
    for number, image in enumerate(compared):
        row = []
        for position, (label, drawing) in enumerate(image.drawings.items()):
            path = folder / f"{number:02d}-{position}.png"
            if not cv2.imwrite(str(path), drawing):
                raise OSError(f"Could not write {path}. Is the disk full?")
            row.append((path, label if label == GROUND_TRUTH else f"{label}, IoU {image.iou[label]:.2f}"))
        parts.append(page.image_row(image.name, row))
    return "".join(parts)


def _runs(content: Content) -> str:
    return page.table(tables.run_table(content.groups)) + page.note(f"Command: {content.command}")
