"""The report itself: a page with everything in it; beside it the figures as PNGs and all numbers as JSON."""

import json
from pathlib import Path

from ibkd_mm.report import elements
from ibkd_mm.report.content import Content, seeds
from ibkd_mm.report.numbers import plain
from ibkd_mm.report.sections import drawn_before, parts
from ibkd_mm.report.style import LeftOutError
from ibkd_mm.utils.atomic import atomic_write

PAGE, NUMBERS = "index.html", "report.json"

_TITLE = "Did distillation help?"


def write(folder: Path, content: Content) -> Path:
    """Write page, figures and numbers into a folder and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in drawn_before(folder):
        stale.unlink()
    sections = [("", _head(content))]
    for title, make in parts(folder, content).items():
        try:
            sections.append((title, make()))
        except LeftOutError as why:
            sections.append((title, elements.paragraph(f"Left out: {why}", "note")))
    with atomic_write(folder / NUMBERS) as partial:
        partial.write_text(json.dumps(plain(content), indent=1))
    with atomic_write(folder / PAGE) as partial:
        partial.write_text(elements.page(_TITLE, sections))
    return folder / PAGE


def _head(content: Content) -> str:
    what = [f"{group.label}: {group.first.name}, {seeds(group)}" for group in content.groups]
    said = [elements.paragraph("; ".join(what) + ".")]
    if content.unequal:
        said.append(
            elements.warning("Not a fair comparison: more than the teacher differs.", content.unequal)
        )
    if content.evaluation.lacking:
        said.append(elements.paragraph(content.evaluation.lacking, "note"))
    return "".join(said)
