import re

import cv2
import numpy as np
import pytest

from ibkd_mm.evaluation import Grid, Table, page, write_page


def _page(folder):
    pictures = [[np.full((8, 8, 3), value, np.uint8) for value in row] for row in ((10, 20), (30, 40))]
    table = Table(("model", "AP"), [("A & B <1>", "12.3")])
    return write_page(folder, "A title", ["First.", "Second."], table, Grid(("truth", "A & B"), pictures))


def test_the_page_shows_every_picture_it_was_given(tmp_path):
    html = _page(tmp_path).read_text()
    names = re.findall(r"<img src='([^']+)'", html)
    assert len(names) == 4
    assert [cv2.imread(str(tmp_path / name))[0, 0, 0] for name in names] == [10, 20, 30, 40]


def test_text_is_escaped(tmp_path):
    html = _page(tmp_path).read_text()
    assert "<td>A &amp; B &lt;1&gt;</td><td>12.3</td>" in html
    assert "<p>First.</p><p>Second.</p>" in html


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    assert "http" not in _page(tmp_path).read_text()


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(page.cv2, "imwrite", lambda *_: False)
    with pytest.raises(OSError, match="is the disk full"):
        _page(tmp_path)
