"""One annotation of a COCO file against the size of its image: box, area and mask."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.polygons import TOLERANCE, polygon_faults
from ibkd_mm.data_check.rle import rle_fault
from ibkd_mm.data_check.values import as_numbers, shortly

_LEFT_OUT = {"box-empty", "box-tiny", "area-not-positive"}


def annotation_faults(
    annotation: Mapping[str, Any], size: tuple[int, int] | None, masks: bool
) -> Iterator[Fault]:
    """Find what is wrong with box, area and mask of an annotation.

    Args:
        annotation: an entry of the file.
        size: width and height of the image, where they are known.
        masks: whether the pipeline loads masks.
    """
    if annotation.get("ignore"):  # mmdet's CocoDataset leaves these out unseen
        return
    found = [*_box_faults(annotation.get("bbox"), size), *_area_faults(annotation.get("area"))]
    yield from found
    if annotation.get("segmentation"):
        yield from mask_faults(annotation["segmentation"], size)
    elif masks and not _LEFT_OUT.intersection(kind for kind, _ in found):
        yield "mask-missing", ""


def mask_faults(segmentation: Any, size: tuple[int, int] | None) -> Iterator[Fault]:
    """Find what is wrong with a mask, be it polygons or RLE."""
    if isinstance(segmentation, list):
        if as_numbers(segmentation) is not None:
            yield "mask-malformed", "expected a list of polygons, found one list of numbers: put it in [ ]"
        else:
            yield from polygon_faults(segmentation, size)
    elif isinstance(segmentation, dict):
        fault = rle_fault(segmentation, size)
        if fault:
            yield fault
    else:
        yield "mask-malformed", f"found {type(segmentation).__name__}"


def _box_faults(box: Any, size: tuple[int, int] | None) -> Iterator[Fault]:
    numbers = as_numbers(box)
    if numbers is None or len(numbers) != 4:
        yield "entry-malformed", f"expected bbox [x, y, width, height], found {shortly(box)}"
        return
    if not np.isfinite(numbers).all():
        yield "box-nonfinite", f"{box}"
        return
    x, y, width, height = map(float, numbers)
    if width <= 0 or height <= 0:
        yield "box-empty", f"{box}"
    elif width < 1 or height < 1:
        yield "box-tiny", f"{box}"
    if size and (
        min(x, y) < -TOLERANCE or x + width > size[0] + TOLERANCE or y + height > size[1] + TOLERANCE
    ):
        yield "box-outside", f"{box}; the image is {size[0]} x {size[1]}"


def _area_faults(area: Any) -> Iterator[Fault]:
    if type(area) not in (int, float):
        yield "entry-malformed", f"expected a number as area, found {shortly(area)}"
    elif not area > 0:
        yield "area-not-positive", f"area {area}"
