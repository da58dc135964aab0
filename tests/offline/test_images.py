"""Which pictures a teacher is shown, and how."""

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from ibkd_mm.apis import load_config
from ibkd_mm.datasets.image_folder import list_images
from ibkd_mm.errors import UserError
from ibkd_mm.offline import images as pictures
from ibkd_mm.offline.images import FolderImages, TrainingSetImages, training_dataset_config

HARD = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
MOSAIC = "ibkd_mm::ibkd/ibkd_mask2former-r50_yolov10n_coco.py"


def test_a_folder_is_looked_through_to_the_bottom(folder: FolderImages) -> None:
    assert folder.keys == ["a.png", "b/c.JPG", "b/d.bmp", "e.png"]
    assert len(folder) == 4
    sample = folder[1]
    assert sample["inputs"].shape == (3, 72, 48)
    assert sample["data_samples"].metainfo["img_id"] == "b/c.JPG"
    assert sample["data_samples"].metainfo["ori_shape"] == (90, 60)
    assert sample["data_samples"].metainfo["img_shape"] == (72, 48)
    # what is called a picture and is a folder is looked through, too
    (folder.source / "f.png").mkdir(exist_ok=True)
    assert list_images(folder.source) == [folder.source / key for key in folder.keys]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=rf"Expected images \(.jpg, .*\) in {folder}, found none"):
            FolderImages(folder, [])


def test_all_pictures_of_the_training_set_are_shown_undistorted(shapes: Path) -> None:
    config = load_config(HARD)
    described = training_dataset_config(config)
    described.update(type="CocoDataset", ann_file="annotations/train.json", data_prefix={"img": "train/"})
    for name in ("split", "spec"):
        described.pop(name)
    described.update(data_root=str(shapes), indices=5, filter_cfg={"filter_empty_gt": True, "min_size": 999})
    before = copy.deepcopy(described)
    with DefaultScope.overwrite_default_scope("mmdet"):
        shown = TrainingSetImages(described, pictures.test_pipeline(config))
    assert described == before
    assert shown.keys == ["1", "2", "3", "4", "5"]
    assert shown.source == shapes / "annotations" / "train.json"
    sample = shown[2]
    read = cv2.resize(cv2.imread(str(shapes / "train" / "000003.jpg")), (160, 160))
    assert np.array_equal(sample["inputs"].permute(1, 2, 0).numpy(), read)
    assert sample["data_samples"].metainfo["ori_shape"] == (64, 64)
    assert "gt_instances" not in sample["data_samples"] or not len(sample["data_samples"].gt_instances)


@pytest.mark.parametrize("name", [HARD, MOSAIC])
def test_the_training_set_is_found_in_whatever_mixes_it(name: str) -> None:
    config = load_config(name)
    found = training_dataset_config(config)
    assert found["type"] in ("ibkd_mm.ShapesDataset", "CocoDataset")
    assert "dataset" not in found
    repeated = {"type": "RepeatDataset", "times": 2, "dataset": config.train_dataloader.dataset}
    config.train_dataloader.dataset = repeated
    assert training_dataset_config(config) == found
    kept = [str(each["type"]) for each in pictures.test_pipeline(config)]
    assert kept == ["LoadImageFromFile", "Resize", "PackDetInputs"]


def test_parts_of_one_annotation_file_are_one_again() -> None:
    whole = training_dataset_config(load_config(HARD))
    first = {**whole, "indices": [0, 1]}
    others = {**whole, "indices": [2], "filter_cfg": {"min_size": 4}, "pipeline": [{"type": "NoAnnotations"}]}
    parts = [{"type": "RepeatDataset", "times": 3, "dataset": first}, others]
    joined: Any = Config({"train_dataloader": {"dataset": {"type": "ConcatDataset", "datasets": parts}}})
    whole.pop("pipeline")
    assert training_dataset_config(joined) == whole
    others["data_root"] = "elsewhere"
    joined = Config({"train_dataloader": {"dataset": {"type": "ConcatDataset", "datasets": parts}}})
    with pytest.raises(UserError, match=r"found ibkd_mm\.ShapesDataset\. Cache the parts"):
        training_dataset_config(joined)


def test_what_joins_several_sets_and_what_packs_nothing_is_refused() -> None:
    joined: Any = {
        "type": "ConcatDataset",
        "datasets": [{"type": "CityscapesDataset"}, {"type": "CocoDataset"}],
    }
    with pytest.raises(UserError, match=r"found CityscapesDataset, CocoDataset\. Cache the parts of joined"):
        training_dataset_config(Config({"train_dataloader": {"dataset": joined}}))
    config = Config({"val_dataloader": {"dataset": {"pipeline": [{"type": "LoadAnnotations"}]}}})
    with pytest.raises(UserError, match="to end with PackDetInputs"):
        pictures.test_pipeline(config)
