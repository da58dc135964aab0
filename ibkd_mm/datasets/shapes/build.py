"""Shapes in COCO format: write them in a temporary folder that is then moved into place, and load them."""

import json
import time
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.logging import print_log
from pycocotools import mask as rle

from ibkd_mm.datasets.shapes.outlines import CLASSES, PALETTE
from ibkd_mm.datasets.shapes.scene import PRESETS, Scene, draw_scene
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import DATASETS
from ibkd_mm.utils.atomic import atomic_folder, file_lock
from ibkd_mm.utils.parallel import parallel_map

SPLITS = ("train", "val")
_SPEC_FILE = "shapes.json"
_FORMAT = 2  # increased whenever the same spec would give other images
_IMAGE_FILE = "{:06d}.jpg"


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
    """Generate the data in `root` if they are missing; return whether they were. No folder is overwritten."""
    root = Path(root)
    if _exists(root, spec):
        return False
    with file_lock(root):  # of several processes, one writes and the others wait
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
            found = f"{root} contains files that are not a Shapes dataset (no {_SPEC_FILE})"
            raise UserError(f"{found}. Choose another data_root.") from None
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
    coco = {
        # part of the generated files, which do not change
        "info": {"description": "Shapes: generated pictures with exact instance masks", **spec.as_dict()},
        "images": [
            {"id": i + 1, "file_name": _IMAGE_FILE.format(i + 1), "width": spec.size, "height": spec.size}
            for i in indices
        ],
        "annotations": [{**annotation, "id": i + 1} for i, annotation in enumerate(annotations)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    (root / "annotations" / f"{split}.json").write_text(json.dumps(coco))


def _write_image(folder: Path, spec: ShapesSpec, split: str, index: int) -> list[dict[str, Any]]:
    """Write an image and return its annotations, which get their ids later."""
    scene, file = spec.scene(split, index), folder / _IMAGE_FILE.format(index + 1)
    if not cv2.imwrite(str(file), scene.image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"could not write {file}; is the disk full?")
    annotations = []
    for mask, label in zip(scene.masks, scene.labels, strict=True):
        encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotation = {"image_id": index + 1, "category_id": int(label) + 1, "iscrowd": 0}
        annotation |= {"bbox": rle.toBbox(encoded).tolist(), "area": int(rle.area(encoded))}
        segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        annotations.append({**annotation, "segmentation": segmentation})
    return annotations


@DATASETS.register_module()
class ShapesDataset(CocoDataset):
    """Eight classes of shapes on cluttered backgrounds, in COCO format; missing files are generated.

    Args:
        data_root: folder of the data.
        split: 'train' or 'val'.
        spec: arguments of `ShapesSpec`, equal for both splits of a folder.
        **kwargs: arguments of mmdet's `CocoDataset`.
    """

    METAINFO = {"classes": CLASSES, "palette": list(PALETTE)}  # mmdet reads a tuple as a single colour

    def __init__(
        self, data_root: str, split: str = "train", spec: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"ShapesDataset has the splits {SPLITS}, found split={split!r}.")
        parsed, started = _parse(spec or {}), time.perf_counter()
        if ensure_shapes(data_root, parsed):
            seconds = time.perf_counter() - started
            amount = f"{parsed.preset}, {parsed.train} + {parsed.val} images"
            print_log(f"Generated Shapes ({amount}) in {data_root} in {seconds:.0f} s", logger="current")
        files = {"ann_file": f"annotations/{split}.json", "data_prefix": {"img": f"{split}/"}}
        super().__init__(data_root=data_root, **files, **kwargs)


def _parse(spec: dict[str, Any]) -> ShapesSpec:
    known = [field.name for field in fields(ShapesSpec)]
    for name in set(spec) - set(known):
        hint = did_you_mean(name, known)
        raise UserError(f"ShapesDataset's spec has no '{name}'.{hint} It has: {', '.join(known)}.")
    return ShapesSpec(**spec)
