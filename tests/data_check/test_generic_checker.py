"""Datasets of other formats: images and segmentation maps of mmseg's BaseSegDataset."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from ibkd_mm.data_check import KINDS, check_datasets, find_datasets

CLASSES = ("road", "car", "sky")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "maps"):
        (tmp_path / name).mkdir()
    for n in range(3):
        cv2.imwrite(str(tmp_path / f"images/{n}.jpg"), rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
        _write_map(tmp_path, n, rng.integers(0, 3, (20, 30)))
    return tmp_path


def _write_map(folder, n, labels):
    cv2.imwrite(str(folder / f"maps/{n}.png"), np.uint8(labels))


def _check(folder, **settings):
    dataset = {
        "type": "mmseg.BaseSegDataset",
        "data_root": str(folder),
        "data_prefix": {"img_path": "images", "seg_map_path": "maps"},
        "metainfo": {"classes": CLASSES},
        **settings,
    }
    (report,) = check_datasets(find_datasets(Config({"train_dataloader": {"dataset": dataset}})), workers=1)
    return report


def _found(folder, **settings):
    findings = _check(folder, **settings).findings
    return {(finding.kind, (finding.file or "").removeprefix(f"{folder}/")) for finding in findings}


def test_a_healthy_set_yields_nothing(folder):
    report = _check(folder)
    assert report.findings == []
    assert report.counts == {"images": 3, "maps": 3}
    _write_map(folder, 0, np.full((20, 30), 255))
    assert _found(folder) == set()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("kind", "file", "damage"),
    [
        ("image-truncated", "images/1.jpg", lambda root: _cut(root / "images/1.jpg")),
        ("segmap-missing", "maps/1.png", lambda root: (root / "maps/1.png").unlink()),
        ("segmap-truncated", "maps/1.png", lambda root: _cut(root / "maps/1.png")),
        ("segmap-undecodable", "maps/1.png", lambda root: (root / "maps/1.png").write_text("no map")),
        ("segmap-size", "maps/1.png", lambda root: _write_map(root, 1, np.zeros((20, 31)))),
        ("segmap-label", "maps/1.png", lambda root: _write_map(root, 1, np.full((20, 30), 3))),
        ("segmap-label", "maps/1.png", lambda root: _write_map(root, 1, np.zeros((20, 30, 3)))),
    ],
)
def test_damage_is_found_and_named(folder, kind, file, damage):
    damage(folder)
    assert _found(folder) == {(kind, file)}
    assert KINDS[kind][0] == "error"


def test_wrong_labels_are_listed(folder):
    _write_map(folder, 2, np.arange(600).reshape(20, 30) % 13)
    (finding,) = _check(folder).findings
    assert finding.detail == "3, 4, 5, 6, 7, 8, 9, 10 and 2 more"


def test_labels_count_as_mmseg_loads_them(folder):
    _write_map(folder, 0, np.full((20, 30), 3))
    assert _found(folder) == {("segmap-label", "maps/0.png")}
    assert _found(folder, reduce_zero_label=True) == set()
    _write_map(folder, 0, np.full((20, 30), 4))
    assert _found(folder, reduce_zero_label=True) == {("segmap-label", "maps/0.png")}
    assert _found(folder, ignore_index=4) == set()


def test_classes_left_out_are_no_wrong_labels(folder):
    """Cityscapes has 19; a config that takes two of them has mmseg ignore the others."""
    settings = {"type": "mmseg.CityscapesDataset", "img_suffix": ".jpg", "seg_map_suffix": ".png"}
    _write_map(folder, 0, np.arange(600).reshape(20, 30) % 19)
    assert _found(folder, **settings, metainfo={"classes": ("road", "car")}) == set()
    _write_map(folder, 0, np.full((20, 30), 19))
    assert _found(folder, **settings, metainfo={"classes": ("road", "car")}) == {
        ("segmap-label", "maps/0.png")
    }


def test_a_set_that_cannot_be_read_says_why(folder):
    (finding,) = _check(folder, data_prefix={"img_path": "nowhere"}).findings
    assert finding.kind == "dataset-unreadable"
    assert "nowhere" in finding.detail


def test_an_empty_set_is_an_error(folder):
    (finding,) = _check(folder, img_suffix=".bmp").findings
    assert (finding.kind, finding.severity) == ("split-empty", "error")
