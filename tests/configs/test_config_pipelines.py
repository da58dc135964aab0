"""Pipelines run on generated Shapes, and on a small image with polygon and RLE annotations."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import CONFIGS
from mmcv import imresize
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from numpy.typing import NDArray
from pycocotools import mask as rle

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.datasets.shapes import ShapesSpec, ensure_shapes

SHAPES = sorted(
    str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("*/*_shapes.py") if "_base_" not in path.parts
)
SIZE, SIZES = 160, {"mask_rcnn/mask_rcnn_r18_fpn_shapes.py": 128}


def pixels(sample: Any, instances: str = "gt_instances") -> NDArray[np.bool_]:
    """Masks of a packed sample as (N, H, W)."""
    return getattr(sample, instances).masks.to_ndarray().astype(bool)


def unflipped(array: NDArray, direction: str | None) -> NDArray:
    axes = {None: (), "horizontal": (-1,), "vertical": (-2,), "diagonal": (-2, -1)}[direction]
    return np.flip(array, axes)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_pass_the_pipeline_unchanged(load: Callable, tmp_path: Path, name: str, split: str) -> None:
    config = innermost_dataset(load(name)[f"{split}_dataloader"].dataset)
    spec = ShapesSpec(**{**config["spec"], "train": 6, "val": 6})
    ensure_shapes(tmp_path / "shapes", spec, workers=1)
    dataset = DATASETS.build({**config, "data_root": str(tmp_path / "shapes"), "spec": {**vars(spec)}})
    assert len(dataset) == 6
    for index in range(6):
        packed, scene = dataset[index], spec.scene(split, index)
        sample = packed["data_samples"]
        direction = sample.get("flip_direction") if sample.get("flip") else None
        size, masks = SIZES.get(name, SIZE), scene.masks
        assert packed["inputs"].shape == (3, size, size)
        if split == "train":
            masks = np.stack(
                [imresize(each.astype(np.uint8), (size, size), interpolation="nearest") for each in masks]
            )
        assert np.array_equal(unflipped(pixels(sample), direction), masks)
        assert sample.gt_instances.labels.tolist() == scene.labels.tolist()
        image = unflipped(packed["inputs"].numpy(), direction).transpose(1, 2, 0)
        assert np.array_equal(image, imresize(cv2.imread(sample.img_path), (size, size)))


@dataclass
class Tiny:
    """An image of 100 x 200 (height x width) with one box as a polygon and another one as RLE."""

    root: Path
    height: int = 100
    width: int = 200
    boxes = {"person": (20, 10, 60, 50), "bus": (120, 30, 180, 90)}

    def annotations(self, classes: tuple[str, ...]) -> dict[str, Any]:
        polygon, encoded = self.boxes["person"], self.boxes["bus"]
        x1, y1, x2, y2 = polygon
        outline = [x1, y1, x2, y1, x2, y2, x1, y2]
        inside = np.zeros((self.height, self.width), np.uint8, order="F")
        inside[encoded[1] : encoded[3], encoded[0] : encoded[2]] = 1
        counts = rle.encode(inside)
        segmentations = {"person": [outline], "bus": {**counts, "counts": counts["counts"].decode()}}
        return {
            "images": [{"id": 7, "file_name": "a.png", "height": self.height, "width": self.width}],
            "categories": [{"id": 10 * i + 1, "name": name} for i, name in enumerate(classes)],
            "annotations": [
                {
                    "id": i,
                    "image_id": 7,
                    "iscrowd": 0,
                    "category_id": 10 * classes.index(name) + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": (box[2] - box[0]) * (box[3] - box[1]),
                    "segmentation": segmentations[name],
                }
                for i, (name, box) in enumerate(self.boxes.items(), start=1)
            ],
        }

    def dataset(self, config: dict[str, Any]) -> Any:
        """Build the config's own dataset, pipeline and filter included, on this image."""
        config = innermost_dataset(config)
        with DATASETS.switch_scope_and_registry(None) as registry:
            metainfo = config.get("metainfo") or registry.get(config["type"]).METAINFO
        (self.root / "a.json").write_text(json.dumps(self.annotations(tuple(metainfo["classes"]))))
        cv2.imwrite(str(self.root / "a.png"), np.full((self.height, self.width, 3), (10, 20, 30), np.uint8))
        return DATASETS.build(
            {**config, "data_root": str(self.root), "ann_file": "a.json", "data_prefix": {"img": ""}}
        )


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path)


def scaled(box: tuple[int, ...], factor: tuple[float, float], width: int, flip: bool) -> list[float]:
    x1, y1, x2, y2 = box[0] * factor[0], box[1] * factor[1], box[2] * factor[0], box[3] * factor[1]
    return [width - x2, y1, width - x1, y2] if flip else [x1, y1, x2, y2]


def check_boxes_and_masks(sample: Any, names: list[str], classes: tuple[str, ...], boxes: dict) -> None:
    """Boxes are the annotation's, scaled and flipped as the sample says; masks fill them."""
    height, width = sample.img_shape
    expected = [scaled(boxes[name], sample.scale_factor, width, sample.get("flip", False)) for name in names]
    instances = sample.gt_instances
    assert [classes[label] for label in instances.labels.tolist()] == names
    assert torch.allclose(instances.bboxes.tensor, torch.tensor(expected), atol=1e-3)
    masks = pixels(sample)
    assert masks.shape == (len(names), height, width)
    for mask, (x1, y1, x2, y2) in zip(masks, expected, strict=True):
        assert mask.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.02)
        rows, columns = np.nonzero(mask)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.subtract(found, [x1, y1, x2, y2])).max() <= 1.5


@pytest.mark.parametrize("seed", range(3))
def test_mask_rcnn_1x_takes_polygons_and_rle_at_one_scale(load: Callable, tiny: Tiny, seed: int) -> None:
    config = load("mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py")
    dataset = tiny.dataset(config.train_dataloader.dataset)
    np.random.seed(seed)
    packed = dataset[0]
    assert packed["inputs"].shape == (3, 667, 1333)  # 100 x 200 times 6.665: the long side is the limit
    assert packed["inputs"][:, 0, 0].tolist() == [10, 20, 30]  # still BGR bytes
    check_boxes_and_masks(packed["data_samples"], ["person", "bus"], dataset.metainfo["classes"], tiny.boxes)


@pytest.mark.parametrize("name", ["r50_fpn_3x", "r101_fpn_3x"])
def test_mask_rcnn_3x_scales_at_random_and_ignores_rle(load: Callable, tiny: Tiny, name: str) -> None:
    """With `poly2mask=False` mmdet ignores RLE instances (in COCO: crowds). README.md says so."""
    config = load(f"mask_rcnn/mask_rcnn_{name}_coco.py")
    assert config.train_dataloader.dataset.times == 3
    tiny.width = 140  # 1333 / 140 > 800 / 100, so that the short side decides
    tiny.boxes = {"person": (20, 10, 60, 50), "bus": (80, 30, 130, 90)}
    dataset = tiny.dataset(config.train_dataloader.dataset)
    heights = set()
    for seed in range(8):
        np.random.seed(seed)
        packed = dataset[0]
        heights.add(packed["inputs"].shape[1])
        sample = packed["data_samples"]
        check_boxes_and_masks(sample, ["person"], dataset.metainfo["classes"], tiny.boxes)
        assert sample.ignored_instances.labels.tolist() == [dataset.metainfo["classes"].index("bus")]
    assert 640 <= min(heights) < 700
    assert 740 < max(heights) <= 800


CROPS = {"coco": (1024, 1024), "voc": (512, 512), "cityscapes": (512, 1024)}
"""Height and width of the training images."""


@pytest.mark.parametrize("data", CROPS)
@pytest.mark.parametrize("backbone", ["r50", "swin-t"])
def test_mask2former_crops_and_pads_to_its_training_size(
    load: Callable, tiny: Tiny, backbone: str, data: str
) -> None:
    config = load(f"mask2former/mask2former_{backbone}_{data}.py")
    dataset = tiny.dataset(config.train_dataloader.dataset)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    classes, size = dataset.metainfo["classes"], CROPS[data]
    seen = set()
    for seed in range(8):
        np.random.seed(seed)
        packed = dataset[0]
        if packed is None:  # a crop without instances; the dataset draws again
            continue
        height, width = packed["inputs"].shape[1:]
        seen.add((height, width))
        assert height <= size[0]
        assert width <= size[1]
        batch = preprocessor(
            {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}, training=True
        )
        sample = batch["data_samples"][0]
        assert batch["inputs"].shape == (1, 3, *size)
        assert pixels(sample).shape[1:] == size
        assert (batch["inputs"][0, :, height:] == 0).all()
        assert not pixels(sample)[:, height:].any()
        assert {classes[label] for label in sample.gt_instances.labels.tolist()} <= {"person", "bus"}
    if data == "cityscapes":  # 200 x 100 has its aspect, and even the smallest scale fills the crop
        assert seen == {size}
    else:
        assert len(seen) > 3


def test_only_cityscapes_jitters_colours(load: Callable, tiny: Tiny) -> None:
    colours = {}
    for data in CROPS:
        dataset = tiny.dataset(load(f"mask2former/mask2former_r50_{data}.py").train_dataloader.dataset)
        drawn = [dataset.prepare_data(0) for _ in range(10)]
        colours[data] = {tuple(packed["inputs"][:, 0, 0].tolist()) for packed in drawn if packed is not None}
    assert colours["coco"] == colours["voc"] == {(10.0, 20.0, 30.0)}
    assert len(colours["cityscapes"]) > 1


TEST_SIZES = {
    "mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py": (667, 1333),
    "mask_rcnn/mask_rcnn_r50_fpn_3x_coco.py": (667, 1333),
    "mask2former/mask2former_r50_coco.py": (667, 1333),
    "mask2former/mask2former_swin-t_voc.py": (256, 512),
    "mask2former/mask2former_r50_voc.py": (256, 512),
    "mask2former/mask2former_r50_cityscapes.py": (1024, 2048),
    "mask2former/mask2former_swin-t_cityscapes.py": (1024, 2048),
}


@pytest.mark.parametrize("name", TEST_SIZES)
def test_testing_scales_the_whole_image_and_keeps_the_metainfo_to_restore_its_size(
    load: Callable, tiny: Tiny, name: str
) -> None:
    config = load(name)
    packed = tiny.dataset(config.val_dataloader.dataset)[0]
    sample, size = packed["data_samples"], TEST_SIZES[name]
    assert packed["inputs"].shape == (3, *size)
    assert sample.img_id == 7
    assert sample.ori_shape == (100, 200)
    assert sample.scale_factor == pytest.approx((size[1] / 200, size[0] / 100), rel=1e-3)
    assert config.test_dataloader == config.val_dataloader


def test_voc_has_the_twenty_classes_in_the_order_of_mmdets_own_dataset(load: Callable) -> None:
    from mmdet.datasets import VOCDataset

    config: Config = load("mask2former/mask2former_r50_voc.py")
    for split in ("train", "val"):
        classes = config[f"{split}_dataloader"].dataset.metainfo["classes"]
        assert classes == VOCDataset.METAINFO["classes"]
