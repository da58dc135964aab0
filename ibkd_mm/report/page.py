"""HTML of a self-contained page: text, tables and embedded images, without external resources."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ibkd_mm.report.tables import TextTable

# Pages are well-formed XML too. Wide content scrolls in its own box; the page itself never scrolls sideways.
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; overflow-wrap: anywhere; }
table { border-collapse: collapse; white-space: nowrap; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0; }
figure img { width: 100%; display: block; }
figcaption, .note { color: #666; font-size: .9rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
@media (max-width: 40rem) {
  .wide th, .wide td { padding: .35rem .3rem; }
  .wide td:first-child { white-space: normal; overflow-wrap: normal; }
}
.wide img { width: 100%; min-width: 34rem; display: block; }
.warning { border: 2px solid #D55E00; padding: .2rem 1rem; margin: 1rem 0; }
.side { display: grid; gap: .6rem; margin: .5rem 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.legend span { margin-right: 1rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
h3 { font-size: 1rem; margin: 1rem 0 .2rem; }
"""


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """Return a paragraph in smaller, grey type."""
    return f'<p class="note">{escape(text)}</p>'


def warning(title: str, lines: Sequence[str]) -> str:
    """Return a box with a coloured border that lists lines under a title."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="warning"><p><strong>{escape(title)}</strong></p><ul>{items}</ul></div>'


def table(content: TextTable) -> str:
    """Return a table in a box that scrolls."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in content.header)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in content.rows)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def figure(path: Path, alt: str) -> str:
    """Return a wide image in a box that scrolls."""
    return f'<div class="wide">{_image(path, alt)}</div>'


def image_row(title: str, images: Sequence[tuple[Path, str]]) -> str:
    """Return images with captions side by side, fewer in a row on a narrow page."""
    cells = "".join(
        f"<figure>{_image(path, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for path, caption in images
    )
    return f'<h3>{escape(title)}</h3><div class="side">{cells}</div>'


def legend(colors: Mapping[str, tuple[int, int, int]]) -> str:
    """Return a legend of names with their RGB colours."""
    entries = "".join(
        f'<span><i style="background: rgb{tuple(map(int, color))}"></i>{escape(name)}</span> '
        for name, color in colors.items()
    )
    return f'<p class="legend">{entries}</p>'


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Return a whole page of sections, each a title, which may be empty, and its HTML."""
    body = "".join((f"<h2>{escape(name)}</h2>" if name else "") + content for name, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _image(path: Path, alt: str) -> str:
    data = b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}"/>'
