"""Shapes as a dataset that makes itself on first use."""

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
    """Eight classes of shapes in clutter, in COCO format, generated where they are missing.

    Args:
        data_root: folder to find or to make the data in.
        split: 'train' or 'val'.
        spec: what the data are made of, see `ShapesSpec`; the same for both splits of one folder.
        **kwargs: as for mmdet's `CocoDataset`.
    """

    METAINFO = {"classes": CLASSES, "palette": list(PALETTE)}  # mmdet takes a tuple for one colour

    def __init__(
        self, data_root: str, split: str = "train", spec: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"ShapesDataset has the splits {SPLITS}, found split={split!r}.")
        _announce(data_root, _checked(spec or {}))
        super().__init__(
            data_root=data_root,
            ann_file=f"annotations/{split}.json",
            data_prefix={"img": f"{split}/"},
            **kwargs,
        )


def _checked(spec: dict[str, Any]) -> ShapesSpec:
    known = [field.name for field in fields(ShapesSpec)]
    for name in set(spec) - set(known):
        hint = did_you_mean(name, known)
        raise UserError(f"ShapesDataset's spec has no '{name}'.{hint} It has: {', '.join(known)}.")
    return ShapesSpec(**spec)


def _announce(data_root: str, spec: ShapesSpec) -> None:
    started = time.perf_counter()
    if ensure_shapes(data_root, spec):
        print_log(
            f"Generated Shapes ({spec.preset}, {spec.train} + {spec.val} pictures) in {data_root} "
            f"in {time.perf_counter() - started:.0f} s",
            logger="current",
        )
