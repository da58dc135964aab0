"""A folder of images without labels, as a dataset."""

import os
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

import ibkd_mm
from ibkd_mm.datasets.image_folder import ImageFolder
from ibkd_mm.errors import UserError

PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "ibkd_mm.NoAnnotations"},
    {"type": "RandomFlip", "prob": 1.0},
    {"type": "PackDetInputs", "meta_keys": ("img_id", "img_shape", "flip")},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("b/two.JPG", "one.png", "b/deep/three.bmp")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((8 + number, 10, 3), 50 * number, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_every_image_is_a_sample_without_instances(folder: Path) -> None:
    described = {
        "type": "ibkd_mm.ImageFolder",
        "data_root": str(folder),
        "metainfo": {"classes": ("cat", "dog")},
        "pipeline": PIPELINE,
    }
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(described)
    assert dataset.metainfo["classes"] == ("cat", "dog")
    samples = [dataset[index]["data_samples"] for index in range(len(dataset))]
    assert [sample.img_id for sample in samples] == ["b/deep/three.bmp", "b/two.JPG", "one.png"]
    assert [sample.img_shape for sample in samples] == [(10, 10), (8, 10), (9, 10)]
    for sample in samples:
        assert sample.flip
        assert len(sample.gt_instances) == len(sample.ignored_instances) == 0
        assert sample.gt_instances.masks.masks.shape == (0, *sample.img_shape)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected images \(.jpg, .* found none"):
        ibkd_mm.datasets.ImageFolder(str(tmp_path), pipeline=[])


def test_a_name_of_any_bytes_is_a_name_that_can_be_stored(folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "one.png").read_bytes())
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    found = ImageFolder(str(folder), pipeline=[])
    keys = [found.get_data_info(index)["img_id"] for index in range(len(found))]
    assert sorted(keys) == ["b/deep/three.bmp", "b/two.JPG", "caf\\xe9.png", "one.png"]
    assert all(Path(found.get_data_info(index)["img_path"]).is_file() for index in range(len(found)))
    with sqlite3.connect(":memory:") as base:
        assert [base.execute("SELECT ?", (key,)).fetchone()[0] for key in keys] == keys
