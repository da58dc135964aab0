"""A page with a table and pictures, to look at in a browser: one folder, nothing from elsewhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2

from ibkd_mm.evaluation.overlay import Image

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.pictures { display: grid; gap: .6rem; }
figure { margin: 0; }
figure img { width: 100%; display: block; }
figcaption, .note { color: #666; font-size: .9rem; }
"""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Grid:
    """Rows of pictures, one caption a column."""

    captions: Sequence[str]
    rows: Sequence[Sequence[Image]]


def write_page(folder: Path, title: str, paragraphs: Sequence[str], table: Table, grid: Grid) -> Path:
    """Write `index.html` and its pictures into `folder`; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    page = folder / "index.html"
    page.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>{text}{table_html(table)}"
        f"{_pictures(folder, grid)}</html>\n"
    )
    return page


def table_html(table: Table) -> str:
    """Give the table's element."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _pictures(folder: Path, grid: Grid) -> str:
    cells = [f"<figcaption>{escape(caption)}</figcaption>" for caption in grid.captions]
    for number, row in enumerate(grid.rows):
        for caption, image in zip(grid.captions, row, strict=True):
            name = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', caption.lower())}.png"
            if not cv2.imwrite(str(folder / name), image):
                raise OSError(f"could not write {folder / name}; is the disk full?")
            cells.append(f"<figure><img src='{name}' alt='{escape(caption)}'></figure>")
    columns = f"grid-template-columns: repeat({len(grid.captions)}, 1fr)"
    return f"<div class='pictures' style='{columns}'>{''.join(cells)}</div>"
