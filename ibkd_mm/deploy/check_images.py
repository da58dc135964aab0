"""Images to check and to calibrate with: those of the config's datasets, or synthetic ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.datasets.shapes.build import ShapesSpec
from ibkd_mm.utils.silence import quiet


@dataclass(frozen=True)
class CheckImages:
    """Some images of a dataset, (height, width, 3) uint8, RGB."""

    dataset: Any
    indices: Sequence[int]
    source: str

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[np.ndarray]:
        for index in self.indices:
            yield np.ascontiguousarray(self.dataset[index]["img"][..., ::-1])


def load_images(config: Config, split: str, count: int) -> CheckImages:
    """Choose at most `count` images of a split at equal intervals, loaded as the test pipeline does."""
    loading = innermost_dataset(config.test_dataloader.dataset)["pipeline"][:1]
    settings = dict(innermost_dataset(config[f"{split}_dataloader"].dataset))
    with quiet():
        dataset = DATASETS.build({**settings, "pipeline": loading, "test_mode": True})
    indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()
    return CheckImages(dataset, indices, f"images of {dataset.ann_file}")


def load_check_images(config: Config, count: int) -> CheckImages:
    """Choose images of the test split, or generate some if the dataset is missing."""
    try:
        return load_images(config, "test", count)
    except FileNotFoundError:
        scenes = (ShapesSpec(size=192).scene("val", index).image for index in range(count))
        images = [{"img": image[: 192 if index % 2 else 128]} for index, image in enumerate(scenes)]
        return CheckImages(images, range(count), "synthetic images, as the config's dataset is missing")
