"""Shapes on disk: COCO format, written side by side and moved into place whole."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from ibkd_mm.datasets.shapes.outlines import CLASSES
from ibkd_mm.datasets.shapes.scene import PRESETS, Scene, draw
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_folder, file_lock
from ibkd_mm.utils.cores import usable_cores

SPLITS = ("train", "val")
_SPEC_FILE = "shapes.json"
_FORMAT = 2
"""Goes up when the same spec would give other pictures."""
_PICTURES_A_WORKER = 100
"""Fewer are not worth another process."""


@dataclass(frozen=True)
class ShapesSpec:
    """All that a Shapes folder depends on."""

    preset: str = "hard"
    train: int = 2000
    val: int = 300
    size: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise UserError(f"Shapes has the presets {sorted(PRESETS)}, not preset={self.preset!r}.")
        if min(self.train, self.val) < 1 or self.size < 32:
            raise UserError(f"Shapes needs train >= 1, val >= 1 and size >= 32, found {asdict(self)}.")

    def scene(self, split: str, index: int) -> Scene:
        """Picture `index` of `split`; depends on nothing else, so any worker may draw it."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split), index])
        return draw(self.size, PRESETS[self.preset], rng)


def ensure_shapes(root: str | Path, spec: ShapesSpec, workers: int | None = None) -> bool:
    """Make the data in `root` unless it is there; return whether it was made.

    Several processes may ask at once: one writes, the others wait. Folders made for another spec are never
    overwritten.
    """
    root = Path(root)
    if _is_made(root, spec):
        return False
    with file_lock(root):
        if _is_made(root, spec):
            return False
        with atomic_folder(root) as draft:
            for split in SPLITS:
                _write_split(draft, spec, split, workers)
            (draft / _SPEC_FILE).write_text(json.dumps(_described(spec), indent=1))
    return True


def _described(spec: ShapesSpec) -> dict[str, Any]:
    return {"format": _FORMAT, **asdict(spec)}


def _is_made(root: Path, spec: ShapesSpec) -> bool:
    try:
        found = json.loads((root / _SPEC_FILE).read_text())
    except FileNotFoundError:
        if root.is_dir() and any(root.iterdir()):
            raise UserError(
                f"{root} holds files that are not a Shapes dataset (no {_SPEC_FILE}). "
                "Choose another data_root."
            ) from None
        return False
    if found != _described(spec):
        raise UserError(
            f"{root} holds Shapes made as {found}, but the config asks for {_described(spec)}. "
            "Choose another data_root, or delete that folder to have it made anew."
        )
    return True


def _write_split(root: Path, spec: ShapesSpec, split: str, workers: int | None) -> None:
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    write = partial(_write_picture, root / split, spec, split)
    indices = range(getattr(spec, split))
    workers = min(workers or usable_cores(), max(1, len(indices) // _PICTURES_A_WORKER))
    if workers > 1:
        # fork, because spawned workers would import all of OpenMMLab first; they run no threads of their own
        with ProcessPoolExecutor(workers, get_context("fork"), cv2.setNumThreads, (0,)) as pool:
            found = list(pool.map(write, indices, chunksize=32))
    else:
        found = [write(index) for index in indices]
    annotations = [annotation for picture in found for annotation in picture]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    coco = {
        "info": {"description": "Shapes: generated pictures with exact instance masks", **_described(spec)},
        "images": [
            {"id": i + 1, "file_name": _name(i), "width": spec.size, "height": spec.size} for i in indices
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))


def _name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _write_picture(folder: Path, spec: ShapesSpec, split: str, index: int) -> list[dict[str, Any]]:
    """Write one picture and return its annotations, still without ids of their own."""
    scene = spec.scene(split, index)
    written = cv2.imwrite(str(folder / _name(index)), scene.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not written:
        raise OSError(f"could not write {folder / _name(index)}; is the disk full?")
    return [
        {"image_id": index + 1, "category_id": int(label) + 1, "iscrowd": 0, **_encoded(mask)}
        for mask, label in zip(scene.masks, scene.labels, strict=True)
    ]


def _encoded(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "bbox": rle.toBbox(encoded).tolist(),
        "area": int(rle.area(encoded)),
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
    }
