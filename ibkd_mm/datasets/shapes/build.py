"""Write Shapes to disk in COCO format, in a temporary folder that is then moved into place."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from ibkd_mm.datasets.shapes.outlines import CLASSES
from ibkd_mm.datasets.shapes.scene import PRESETS, Scene, draw_scene
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_folder, file_lock
from ibkd_mm.utils.parallel import parallel_map

SPLITS = ("train", "val")
_SPEC_FILE = "shapes.json"
_FORMAT = 2
"""Increased whenever the same spec would give other images."""


@dataclass(frozen=True)
class ShapesSpec:
    """Everything that determines the content of a Shapes folder."""

    preset: str = "hard"
    train: int = 2000
    val: int = 300
    size: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise UserError(f"Shapes has the presets {sorted(PRESETS)}, found preset={self.preset!r}.")
        if min(self.train, self.val) < 1 or self.size < 32:
            raise UserError(f"Shapes needs train >= 1, val >= 1 and size >= 32, found {asdict(self)}.")

    def scene(self, split: str, index: int) -> Scene:
        """Draw image `index` of a split; it depends on nothing else, so any process may draw it."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split), index])
        return draw_scene(self.size, PRESETS[self.preset], rng)

    def as_dict(self) -> dict[str, Any]:
        """Return the format and all fields, as they are stored with the data."""
        return {"format": _FORMAT, **asdict(self)}


def ensure_shapes(root: str | Path, spec: ShapesSpec, workers: int | None = None) -> bool:
    """Generate the data in `root` if they are missing; return whether they were.

    If several processes call this at the same time, one writes and the others wait. A folder with another
    spec is never overwritten.
    """
    root = Path(root)
    if _exists(root, spec):
        return False
    with file_lock(root):
        if _exists(root, spec):
            return False
        with atomic_folder(root) as draft:
            for split in SPLITS:
                _write_split(draft, spec, split, workers)
            (draft / _SPEC_FILE).write_text(json.dumps(spec.as_dict(), indent=1))
    return True


def _exists(root: Path, spec: ShapesSpec) -> bool:
    try:
        found = json.loads((root / _SPEC_FILE).read_text())
    except FileNotFoundError:
        if root.is_dir() and any(root.iterdir()):
            raise UserError(
                f"{root} contains files that are not a Shapes dataset (no {_SPEC_FILE}). "
                "Choose another data_root."
            ) from None
        return False
    if found != spec.as_dict():
        raise UserError(
            f"{root} contains Shapes with the spec {found}, but the config asks for {spec.as_dict()}. "
            "Choose another data_root, or delete that folder to generate it again."
        )
    return True


def _write_split(root: Path, spec: ShapesSpec, split: str, workers: int | None) -> None:
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    indices = range(getattr(spec, split))
    by_image = parallel_map(partial(_write_image, root / split, spec, split), indices, workers)
    annotations = [annotation for annotations in by_image for annotation in annotations]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    coco = {
        # part of the generated files, which do not change
        "info": {"description": "Shapes: generated pictures with exact instance masks", **spec.as_dict()},
        "images": [
            {"id": i + 1, "file_name": _file_name(i), "width": spec.size, "height": spec.size}
            for i in indices
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _write_image(folder: Path, spec: ShapesSpec, split: str, index: int) -> list[dict[str, Any]]:
    """Write an image and return its annotations, which get their ids later."""
    scene, file = spec.scene(split, index), folder / _file_name(index)
    if not cv2.imwrite(str(file), scene.image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"could not write {file}; is the disk full?")
    return [
        {"image_id": index + 1, "category_id": int(label) + 1, "iscrowd": 0, **_encode(mask)}
        for mask, label in zip(scene.masks, scene.labels, strict=True)
    ]


def _encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "bbox": rle.toBbox(encoded).tolist(),
        "area": int(rle.area(encoded)),
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
    }
