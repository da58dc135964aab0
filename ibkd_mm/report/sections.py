"""The parts of a report's page: tables and figures with what is said of them."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2

from ibkd_mm.report import elements, tables
from ibkd_mm.report.bars import by_class, by_size
from ibkd_mm.report.comparison import KINDS
from ibkd_mm.report.content import Content
from ibkd_mm.report.curves import learning_curves, loss_terms
from ibkd_mm.report.side_by_side import TRUTH, side_by_side
from ibkd_mm.report.style import LeftOutError

_CURVES, _SIZES, _CLASSES, _LOSSES = "learning_curves.png", "sizes.png", "classes.png", "losses.png"
_PICTURES, _PICTURE = "pictures", re.compile(r"\d\d-\d+\.png")


def drawn_before(folder: Path) -> list[Path]:
    """Find the PNGs that an earlier report left in a folder, by their names; others' may lie beside them."""
    figures = [folder / name for name in (_CURVES, _SIZES, _CLASSES, _LOSSES)]
    pictures = [path for path in (folder / _PICTURES).glob("*.png") if _PICTURE.fullmatch(path.name)]
    return [path for path in (*figures, *pictures) if path.is_file()]


def parts(folder: Path, content: Content) -> dict[str, Callable[[], str]]:
    """Name the parts of the page and how each is made; what has no data raises LeftOutError."""
    return {
        "Figures": lambda: _tables(content),
        "Learning curves": lambda: _curves(folder, content),
        "By size": lambda: _sizes(folder, content),
        "By class": lambda: _classes(folder, content),
        "Speed": lambda: _speed(content),
        "Where they differ most": lambda: _side_by_side(folder, content),
        "Terms of the loss": lambda: _losses(folder, content),
        "Trainings": lambda: _trainings(content),
    }


def _tables(content: Content) -> str:
    made, reasons = [], []
    for kind in KINDS:
        try:
            table = tables.ap_table(content.groups, content.baseline, content.evaluation, kind)
            made.append(elements.table(table))
        except LeftOutError as why:
            reasons.append(str(why))
    if not made:
        raise LeftOutError(" ".join(reasons))
    notes = [*(f"Left out: {why}" for why in reasons), *_notes(content), content.said]
    return "".join([*made, *(elements.paragraph(note, "note") for note in notes)])


def _notes(content: Content) -> list[str]:
    notes = [
        "Of the last validation of each training. With several seeds: the mean ± the standard deviation over "
        "them (n - 1), of differences seed by seed. S, M, L: COCO's sizes of instances."
    ]
    if content.baseline is None:
        notes.append("No training without a teacher was given, so there is nothing to compare with.")
    if content.evaluation.teachers:
        notes.append(
            "The share of the teacher's gap that was closed is (distilled - baseline) / (teacher - "
            "baseline), of the means; - stands where the teacher is not above the baseline. The teacher was "
            "scored on the student's batches, normalised anew, as distillation shows them to it."
        )
    return notes


def _curves(folder: Path, content: Content) -> str:
    path = folder / _CURVES
    learning_curves(content.groups, content.evaluation.teachers, path, content.said)
    return _figure(path, "Learning curves", f"Bands: ± a standard deviation over seeds. {content.said}")


def _sizes(folder: Path, content: Content) -> str:
    path = folder / _SIZES
    by_size(content.groups, content.evaluation.teachers, path, content.said)
    return _figure(path, "AP by size", f"Lines: ± a standard deviation over seeds. {content.said}")


def _classes(folder: Path, content: Content) -> str:
    if not content.evaluation.models:
        raise LeftOutError(content.evaluation.lacking)
    path, labels = folder / _CLASSES, [group.label for group in content.groups]
    rest = by_class(content.evaluation.models, labels, path, content.said_of_models)
    more = (
        f" Not drawn are {len(rest)} classes in which students differ least; report.json has all."
        if rest
        else ""
    )
    return _figure(path, "AP by class", content.said_of_models + more)


def _losses(folder: Path, content: Content) -> str:
    path = folder / _LOSSES
    rest = loss_terms(content.groups, path, content.said)
    more = f" Not drawn: {', '.join(rest)}; report.json has them." if rest else ""
    return _figure(
        path, "Terms of the loss", f"As weighted, means of the logging interval. {content.said}{more}"
    )


def _speed(content: Content) -> str:
    made = elements.table(tables.speed_table(content.evaluation))
    return made + elements.paragraph(
        "Medians of rounds in which each model runs once, on one validation picture. Parameters are the "
        f"deployed model's. {content.said_of_models}",
        "note",
    )


def _side_by_side(folder: Path, content: Content) -> str:
    if content.baseline is None or not content.evaluation.models:
        raise LeftOutError(content.evaluation.lacking or "there is no baseline to differ from.")
    others = [group.label for group in content.groups if group.distilled]
    rows = side_by_side(content.evaluation, content.baseline.label, others)
    drawn, evaluation = set().union(*(row.labels for row in rows)), content.evaluation
    (folder / _PICTURES).mkdir(exist_ok=True)
    parts = [
        elements.paragraph(
            "Of each model as many instances are drawn as there truly are, its most confident ones. IoU: the "
            "mean over true instances of the best mask IoU of one of their class that is drawn. The pictures "
            "are those in which it differs most between baseline and distilled, whichever is better. "
            + content.said_of_models,
            "note",
        ),
        elements.legend({evaluation.classes[label]: evaluation.palette[label] for label in sorted(drawn)}),
    ]
    for number, row in enumerate(rows):
        shown = []
        for place, (label, image) in enumerate(row.drawn.items()):
            path = folder / _PICTURES / f"{number:02d}-{place}.png"
            if not cv2.imwrite(str(path), image):
                raise OSError(f"could not write {path}; is the disk full?")
            shown.append((path, label if label == TRUTH else f"{label}, IoU {row.overlap[label]:.2f}"))
        parts.append(elements.side_by_side(row.name, shown))
    return "".join(parts)


def _trainings(content: Content) -> str:
    made = elements.table(tables.run_table(content.groups))
    return made + elements.paragraph(f"This page: {content.command}", "note")


def _figure(path: Path, alt: str, caption: str) -> str:
    return elements.figure(path, alt) + elements.paragraph(caption, "note")
