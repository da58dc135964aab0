"""What the quickstart shows: a table of figures, and what each model says of the same pictures."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from pycocotools import mask as rle

from ibkd_mm.datasets.shapes import CLASSES, PALETTE
from ibkd_mm.evaluation import Grid, Table, montage, overlay, write_page
from ibkd_mm.evaluation.overlay import Image

_HEADER = ("model", "parameters", "mask AP", "mask AP50", "box AP")
_FIGURES = ("coco/segm_mAP", "coco/segm_mAP_50", "coco/bbox_mAP")
_PICTURES = 8
_PICTURES_IN_ONE = 2
_MIN_SCORE = 0.5


@dataclass(frozen=True)
class Contender:
    """A model that was evaluated: `predictions` as mmdet dumps them, one a validation picture."""

    name: str
    parameters: int
    metrics: dict[str, float]
    predictions: Sequence[dict[str, Any]]

    def row(self) -> list[str]:
        """The model's line in the table."""
        figures = (f"{100 * self.metrics[name]:.1f}" for name in _FIGURES)
        return [self.name, f"{self.parameters / 1e6:.2f} M", *figures]


def write(folder: Path, contenders: Sequence[Contender], config: Config, how: str) -> Path:
    """Write the page of the contenders on the test data of `config`; return its path.

    Its first pictures also stand beside it as one, `quickstart.png`.
    """
    captions = ("truth", *(contender.name for contender in contenders))
    rows = _pictures(config, contenders)
    processor = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    page = write_page(
        folder,
        "ibkd_mm quickstart",
        [
            f"{how} The teacher ships with the package. Both are evaluated on the same validation pictures "
            "of the embedded Shapes data, preset easy, unseen by both; the teacher learned hard ones.",
            f"Hardware: {os.cpu_count()} cores, {processor}; torch {torch.__version__}. Drawn are instances "
            f"with a score of at least {_MIN_SCORE}.",
        ],
        Table(_HEADER, [contender.row() for contender in contenders]),
        Grid(captions, rows),
    )
    cv2.imwrite(str(folder / "quickstart.png"), montage(Grid(captions, rows[:_PICTURES_IN_ONE])))
    return page


def table_text(contenders: Sequence[Contender]) -> str:
    """Format the table for a terminal."""
    table = [list(_HEADER), *(contender.row() for contender in contenders)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def _pictures(config: Config, contenders: Sequence[Contender]) -> list[list[Image]]:
    dataset = DATASETS.build(config.test_dataloader.dataset)
    rows = []
    for index in range(min(_PICTURES, len(dataset))):
        info = dataset.get_data_info(index)
        image = mmcv.imread(info["img_path"])
        truth = [(instance["mask"], instance["bbox_label"]) for instance in info["instances"]]
        said = [_confident(contender.predictions[index]["pred_instances"]) for contender in contenders]
        rows.append([_drawn(image, instances) for instances in (truth, *said)])
    return rows


def _confident(instances: dict[str, Any]) -> list[tuple[Any, int]]:
    found = zip(instances["masks"], instances["labels"].tolist(), instances["scores"].tolist(), strict=True)
    return [(mask, label) for mask, label, score in found if score >= _MIN_SCORE]


def _drawn(image: Image, instances: Sequence[tuple[Any, int]]) -> Image:
    masks = np.array([rle.decode(mask) for mask, _ in instances], dtype=bool)
    labels = [label for _, label in instances]
    return overlay(image, masks.reshape(-1, *image.shape[:2]), labels, PALETTE, CLASSES)
