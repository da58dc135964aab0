"""A small valid dataset in COCO format, to be damaged."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as rle

from ibkd_mm.data_check import Report, check_datasets, find_datasets

WIDTH, HEIGHT = 64, 48
NAMES = {"train": ("t1.jpg", "t2.png", "t3.jpg", "t4.jpg"), "val": ("v1.jpg", "v2.jpg")}


@dataclass
class TinySet:
    """Files in `root` and the content of its two annotation files; `check` writes those and checks all.

    Every image n has a polygon, annotation 10 n, of category 1 or 2. Image 3 of the training split also has a
    crowd, annotation 31, as a list of runs; image 4 a compressed mask, annotation 41.
    """

    root: Path
    train: dict[str, Any]
    val: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def entry(self, annotation: int) -> dict[str, Any]:
        """Return an annotation of the training split."""
        return next(entry for entry in self.train["annotations"] if entry["id"] == annotation)

    def config(self) -> Config:
        load = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}
        common = {
            "type": "mmdet.CocoDataset",
            "data_root": str(self.root),
            "metainfo": {"classes": ("cat", "dog")},
            "pipeline": [{"type": "LoadImageFromFile"}, load],
            **self.settings,
        }
        filtered = {"filter_cfg": {"filter_empty_gt": True, "min_size": 32}}
        train = {**filtered, **common, "ann_file": "train.json", "data_prefix": {"img": "train/"}}
        val = {**common, "ann_file": "val.json", "data_prefix": {"img": "val/"}, "test_mode": True}
        loaders = {"train_dataloader": train, "val_dataloader": val, "test_dataloader": val}
        return Config({name: {"dataset": dataset} for name, dataset in loaders.items()})

    def write(self) -> None:
        (self.root / "train.json").write_text(json.dumps(self.train))
        (self.root / "val.json").write_text(json.dumps(self.val))

    def check(self, write: bool = True) -> dict[str, Report]:
        if write:
            self.write()
        reports = check_datasets(find_datasets(self.config()), workers=1)
        return {report.name.partition(",")[0]: report for report in reports}

    @staticmethod
    def found(reports: dict[str, Report]) -> dict[str, set[tuple[Any, ...]]]:
        """Return the kinds that were found, with their places: split, file, image, annotation."""
        found: dict[str, set[tuple[Any, ...]]] = {}
        for split, report in reports.items():
            for finding in report.findings:
                place = (split, finding.file, finding.image, finding.annotation)
                found.setdefault(finding.kind, set()).add(place)
        return found

    def set_orientation(self, orientation: int) -> None:
        """Set the EXIF orientation of image 1."""
        path, exif = self.root / "train/t1.jpg", Image.Exif()
        exif[0x0112] = orientation
        Image.open(path).save(path, exif=exif)


@pytest.fixture
def tiny(tmp_path: Path) -> TinySet:
    made = TinySet(tmp_path, _split("train"), _split("val"))
    rng = np.random.default_rng(0)
    for split, names in NAMES.items():
        (tmp_path / split).mkdir()
        for name in names:
            noise = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / split / name), noise)
    return made


def _split(split: str) -> dict[str, Any]:
    images, annotations = [], []
    for number, name in enumerate(NAMES[split], start=1):
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        outline = [[8, 8, 28, 8, 28, 24, 8, 24]]
        annotations.append(_annotation(10 * number, number, outline))
    if split == "train":
        crowd = {"size": [HEIGHT, WIDTH], "counts": [100, 20, HEIGHT * WIDTH - 120]}
        annotations.append({**_annotation(31, 3, crowd), "iscrowd": 1})
        mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        mask[8:24, 8:28] = 1
        encoded = rle.encode(mask)
        text = {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
        annotations.append(_annotation(41, 4, text))
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(number: int, image: int, segmentation: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1 + image % 2,
        "bbox": [8, 8, 20, 16],
        "area": 320,
        "iscrowd": 0,
        "segmentation": segmentation,
    }
