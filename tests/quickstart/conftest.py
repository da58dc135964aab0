"""COCO data as users have them, and configs that are read once."""

import copy
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.tiny_config import *  # noqa: F403

from ibkd_mm.apis import load_config
from ibkd_mm.quickstart import recipe, user_configs

CATEGORIES = ({"id": 7, "name": "cat"}, {"id": 3, "name": "dog"})


def _write_image(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8))


def _coco(names: list[str], empty: list[str], categories: Any) -> dict[str, Any]:
    """Two instances in each image, one of each category; none in the empty ones."""
    images, annotations = [], []
    for number, name in enumerate([*names, *empty], start=10):
        images.append({"id": number, "file_name": name, "width": 64, "height": 48})
        for place, category in enumerate(categories if name in names else []):
            x = 4 + 30 * place
            outline = [x, 8, x + 20, 8, x + 20, 30, x, 30]
            shape = {"bbox": [x, 8, 20, 22], "area": 440, "iscrowd": 0, "segmentation": [outline]}
            found = {"id": 100 + len(annotations), "image_id": number, "category_id": category["id"]}
            annotations.append({**found, **shape})
    return {"images": images, "annotations": annotations, "categories": list(categories)}


@pytest.fixture(autouse=True, scope="session")
def _configs_are_read_once() -> Iterator[None]:
    """Each data source reads three, which takes most of its time."""
    read = functools.cache(load_config)
    with pytest.MonkeyPatch.context() as patch:
        for module in (user_configs, recipe):
            patch.setattr(module, "load_config", lambda reference: copy.deepcopy(read(reference)))
        yield


@pytest.fixture
def write_coco() -> Callable[..., Path]:
    """Write a folder with annotations and images; returns the JSON."""

    def write_coco(
        file: str = "own/labels.json",
        labelled: int = 10,
        empty: int = 0,
        unlisted: int = 0,
        folder: str = "images",
        categories: Any = CATEGORIES,
        start: int = 0,
    ) -> Path:
        path = Path(file)
        names = [f"{number:03}.png" for number in range(start, start + labelled + empty + unlisted)]
        for number, name in enumerate(names):
            _write_image(path.parent / folder / name, start + number)
        coco = _coco(names[:labelled], names[labelled : labelled + empty], categories)
        path.write_text(json.dumps(coco))
        return path

    return write_coco
