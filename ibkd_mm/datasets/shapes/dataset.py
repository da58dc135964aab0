"""Shapes as a dataset that generates its files on first use."""

import time
from dataclasses import fields
from typing import Any

from mmdet.datasets import CocoDataset
from mmengine.logging import print_log

from ibkd_mm.datasets.shapes.build import SPLITS, ShapesSpec, ensure_shapes
from ibkd_mm.datasets.shapes.outlines import CLASSES, PALETTE
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import DATASETS


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
        _generate(data_root, _parse(spec or {}))
        super().__init__(
            data_root=data_root,
            ann_file=f"annotations/{split}.json",
            data_prefix={"img": f"{split}/"},
            **kwargs,
        )


def _parse(spec: dict[str, Any]) -> ShapesSpec:
    known = [field.name for field in fields(ShapesSpec)]
    for name in set(spec) - set(known):
        hint = did_you_mean(name, known)
        raise UserError(f"ShapesDataset's spec has no '{name}'.{hint} It has: {', '.join(known)}.")
    return ShapesSpec(**spec)


def _generate(data_root: str, spec: ShapesSpec) -> None:
    started = time.perf_counter()
    if ensure_shapes(data_root, spec):
        seconds = time.perf_counter() - started
        amount = f"{spec.preset}, {spec.train} + {spec.val} images"
        print_log(f"Generated Shapes ({amount}) in {data_root} in {seconds:.0f} s", logger="current")
