"""A page that holds its pictures: sections of text, tables and figures, and nothing from elsewhere."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ibkd_mm.report.page import STYLE, Table, table_html

# Pages are XML as well, for strict readers. What is wide scrolls in its box; the page never does.
_STYLE = f"""{STYLE}
body {{ overflow-wrap: anywhere; }}
.wide {{ overflow-x: auto; margin: 1rem 0; }}
.wide table {{ margin: 0; white-space: nowrap; }}
@media (max-width: 40rem) {{
  .wide th, .wide td {{ padding: .35rem .3rem; }}
  .wide td:first-child {{ white-space: normal; overflow-wrap: normal; }}
}}
.wide img {{ width: 100%; min-width: 34rem; display: block; }}
.warning {{ border: 2px solid #D55E00; padding: .2rem 1rem; margin: 1rem 0; }}
.side {{ display: grid; gap: .6rem; margin: .5rem 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }}
.legend span {{ margin-right: 1rem; white-space: nowrap; }}
.legend i {{ display: inline-block; width: .8em; height: .8em; margin-right: .3em; }}
h3 {{ font-size: 1rem; margin: 1rem 0 .2rem; }}
"""


def paragraph(text: str, kind: str = "") -> str:
    """Give a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def warning(title: str, lines: Sequence[str]) -> str:
    """Give a box that cannot be overlooked."""
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="warning"><p><strong>{escape(title)}</strong></p><ul>{listed}</ul></div>'


def table(content: Table) -> str:
    """Give a table in a box of its own."""
    return f'<div class="wide">{table_html(content)}</div>'


def figure(path: Path, alt: str) -> str:
    """Give a wide picture in a box of its own."""
    return f'<div class="wide">{_image(path, alt)}</div>'


def side_by_side(title: str, pictures: Sequence[tuple[Path, str]]) -> str:
    """Give pictures with captions beside each other, fewer in a line where the page is narrow."""
    cells = "".join(
        f"<figure>{_image(path, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for path, caption in pictures
    )
    return f'<h3>{escape(title)}</h3><div class="side">{cells}</div>'


def legend(colours: Mapping[str, tuple[int, int, int]]) -> str:
    """Say which RGB colour stands for what."""
    chips = "".join(
        f'<span><i style="background: rgb{tuple(map(int, colour))}"></i>{escape(name)}</span> '
        for name, colour in colours.items()
    )
    return f'<p class="legend">{chips}</p>'


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Put titled sections together; the first, without a title, comes first."""
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
