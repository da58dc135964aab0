"""Write a report: a self-contained page, its charts as PNGs, and all numbers as JSON."""

import json
from pathlib import Path

from ibkd_mm.report import page
from ibkd_mm.report.content import Content, format_seeds
from ibkd_mm.report.numbers import to_dict
from ibkd_mm.report.plot_style import NoDataError
from ibkd_mm.report.sections import find_old_images, page_sections
from ibkd_mm.utils.atomic import atomic_write

PAGE, NUMBERS = "index.html", "report.json"

_TITLE = "Did distillation help?"


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
        partial.write_text(json.dumps(to_dict(content), indent=1))
    with atomic_write(folder / PAGE) as partial:
        partial.write_text(page.page(_TITLE, sections))
    return folder / PAGE


def _introduction(content: Content) -> str:
    groups = [f"{group.label}: {group.first.name}, {format_seeds(group)}" for group in content.groups]
    parts = [page.paragraph("; ".join(groups) + ".")]
    if content.differences:
        title = "Not a fair comparison: more than the teacher differs."
        parts.append(page.warning(title, content.differences))
    if content.results.missing:
        parts.append(page.note(content.results.missing))
    return "".join(parts)
