"""Pictures to check and to calibrate with: those of the config's data sets or, without these, made ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.datasets.shapes.build import ShapesSpec
from ibkd_mm.utils.silence import quiet


@dataclass(frozen=True)
class Pictures:
    """Pictures (height, width, 3), bytes, RGB, of a data set."""

    dataset: Any
    places: list[int]
    where: str

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[np.ndarray]:
        for place in self.places:
            yield np.ascontiguousarray(self.dataset[place]["img"][..., ::-1])


@dataclass(frozen=True)
class MadePictures:
    """Pictures of shapes, for a check without data."""

    count: int
    where: str = field(default="made pictures of shapes, as the config's data are not there", init=False)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        spec = ShapesSpec(size=192)
        for place in range(self.count):
            height = 192 if place % 2 else 128  # some are square, some are not
            yield np.ascontiguousarray(spec.scene("val", place).image[:height, :, ::-1])


def pictures_of(config: Config, split: str, count: int) -> Pictures:
    """Take pictures of a split, evenly from all of it, read as the test's pipeline reads them.

    Args:
        config: with `{split}_dataloader`.
        split: 'train', 'val' or 'test'.
        count: how many, at most.
    """
    read = innermost_dataset(config.test_dataloader.dataset)["pipeline"][:1]
    settings = dict(innermost_dataset(config[f"{split}_dataloader"].dataset))
    with quiet():
        dataset = DATASETS.build({**settings, "pipeline": read, "test_mode": True})
    places = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()
    return Pictures(dataset, places, f"pictures of {dataset.ann_file}")


def check_pictures(config: Config, count: int) -> Pictures | MadePictures:
    """Take pictures of the test's data, or where these are not there make some."""
    try:
        return pictures_of(config, "test", count)
    except FileNotFoundError:
        return MadePictures(count)
