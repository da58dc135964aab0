import json
import multiprocessing
import os

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from ibkd_mm.datasets.shapes import ShapesSpec, build, ensure_shapes
from ibkd_mm.datasets.shapes.outlines import CLASSES
from ibkd_mm.errors import UserError
from ibkd_mm.utils import parallel

SPEC = ShapesSpec(preset="hard", train=6, val=3, size=96, seed=5)


def _files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "data"
    assert ensure_shapes(root, SPEC, workers=1)
    return root


def test_annotations_are_the_exact_visible_masks(made):
    coco = json.loads((made / "annotations/val.json").read_text())
    assert [c["name"] for c in coco["categories"]] == list(CLASSES)
    assert len(coco["images"]) == 3
    for image in coco["images"]:
        scene = SPEC.scene("val", image["id"] - 1)
        found = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        masks = np.array([rle.decode(a["segmentation"]) for a in found], dtype=bool)
        np.testing.assert_array_equal(masks, scene.masks)
        np.testing.assert_array_equal([a["category_id"] - 1 for a in found], scene.labels)
        assert [a["area"] for a in found] == masks.sum((1, 2)).tolist()
        x, y, width, height = found[0]["bbox"]
        rows, columns = np.nonzero(masks[0])
        assert (x, y, x + width, y + height) == (
            columns.min(),
            rows.min(),
            columns.max() + 1,
            rows.max() + 1,
        )
    assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))


def test_images_on_disk_are_the_drawn_ones_up_to_jpeg(made):
    drawn = SPEC.scene("train", 2).image.astype(float)
    stored = cv2.imread(str(made / "train/000003.jpg")).astype(float)
    assert np.abs(drawn - stored).mean() < 12


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path, made, monkeypatch):
    monkeypatch.setattr(parallel, "_ITEMS_PER_WORKER", 1)
    ensure_shapes(tmp_path / "data", SPEC, workers=3)
    assert _files(tmp_path / "data") == _files(made)


def test_more_training_images_leave_the_others_as_they_are(tmp_path, made):
    ensure_shapes(tmp_path / "data", ShapesSpec(preset="hard", train=8, val=3, size=96, seed=5), workers=1)
    larger = _files(tmp_path / "data")
    assert len(larger) == len(_files(made)) + 2
    assert all(larger[name] == content for name, content in _files(made).items() if name.endswith(".jpg"))


def test_seed_and_split_change_the_images(made):
    other = ShapesSpec(preset="hard", train=6, val=3, size=96, seed=6)
    assert (SPEC.scene("train", 0).image != other.scene("train", 0).image).any()
    assert (SPEC.scene("train", 0).image != SPEC.scene("val", 0).image).any()


def test_a_second_call_makes_nothing(made):
    before = os.stat(made / "shapes.json").st_mtime_ns
    assert not ensure_shapes(made, SPEC)
    assert os.stat(made / "shapes.json").st_mtime_ns == before


def test_another_spec_in_the_same_folder_is_refused_and_nothing_is_lost(made):
    before = _files(made)
    with pytest.raises(UserError, match=r"'seed': 5.*asks for.*'seed': 9.*another data_root"):
        ensure_shapes(made, ShapesSpec(preset="hard", train=6, val=3, size=96, seed=9))
    assert _files(made) == before


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="not a Shapes dataset"):
        ensure_shapes(tmp_path, SPEC)
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


def test_a_failure_halfway_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    def full_disk(*_):
        return False

    monkeypatch.setattr(build.cv2, "imwrite", full_disk)
    with pytest.raises(OSError, match="is the disk full"):
        ensure_shapes(tmp_path / "data", SPEC, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == [".data.lock"]
    monkeypatch.undo()
    assert ensure_shapes(tmp_path / "data", SPEC, workers=1)


def _ask(root, made):
    made.put(ensure_shapes(root, SPEC, workers=1))


def test_of_several_processes_that_ask_at_once_one_makes_the_data(tmp_path):
    context = multiprocessing.get_context("fork")
    made = context.Queue()
    processes = [context.Process(target=_ask, args=(tmp_path / "data", made)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(made.get(timeout=5) for _ in processes) == [False, False, True]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "medium"}, "presets.*easy.*hard.*hardest.*medium"),
        ({"val": 0}, "val >= 1"),
        ({"size": 8}, "size >= 32"),
    ],
)
def test_a_wrong_spec_is_named(wrong, message):
    with pytest.raises(UserError, match=message):
        ShapesSpec(**wrong)
