"""Check one annotation of a COCO file against the size of its image: box, area and mask."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.rle import find_rle_fault
from ibkd_mm.data_check.values import as_numbers, shorten

_TOLERANCE = 1.0
"""Pixels that a coordinate may lie outside: annotation tools round, and count edges from 0 or from 1."""

_MIN_NUMBERS = 6
"""Coordinates of a triangle."""

_DROPPED = {"box-empty", "box-tiny", "area-not-positive"}
"""Faults for which CocoDataset drops the annotation."""


def find_annotation_faults(
    annotation: Mapping[str, Any], size: tuple[int, int] | None, *, loads_masks: bool
) -> Iterator[Fault]:
    """Check box, area and mask of an annotation.

    Args:
        annotation: entry of the annotation file.
        size: width and height of the image, if known.
        loads_masks: whether the pipeline loads masks.
    """
    if annotation.get("ignore"):  # CocoDataset drops these before it reads them
        return
    found = [*_find_box_faults(annotation.get("bbox"), size), *_find_area_faults(annotation.get("area"))]
    yield from found
    if annotation.get("segmentation"):
        yield from _find_mask_faults(annotation["segmentation"], size)
    elif loads_masks and not _DROPPED.intersection(kind for kind, _ in found):
        yield "mask-missing", ""


def _find_mask_faults(segmentation: Any, size: tuple[int, int] | None) -> Iterator[Fault]:
    if isinstance(segmentation, list):
        if as_numbers(segmentation) is not None:
            yield "mask-malformed", "expected a list of polygons, found one list of numbers: put it in [ ]"
        else:
            for index, polygon in enumerate(segmentation):
                fault = _find_polygon_fault(polygon, size)
                if fault:
                    yield fault[0], f"polygon {index}: {fault[1]}"
    elif isinstance(segmentation, dict):
        fault = find_rle_fault(segmentation, size)
        if fault:
            yield fault
    else:
        yield "mask-malformed", f"found {type(segmentation).__name__}"


def _find_box_faults(box: Any, size: tuple[int, int] | None) -> Iterator[Fault]:
    numbers = as_numbers(box)
    if numbers is None or len(numbers) != 4:
        yield "entry-malformed", f"expected bbox [x, y, width, height], found {shorten(box)}"
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
        min(x, y) < -_TOLERANCE or x + width > size[0] + _TOLERANCE or y + height > size[1] + _TOLERANCE
    ):
        yield "box-outside", f"{box}; the image is {size[0]} x {size[1]}"


def _find_area_faults(area: Any) -> Iterator[Fault]:
    if type(area) not in (int, float):
        yield "entry-malformed", f"expected a number as area, found {shorten(area)}"
    elif not area > 0:
        yield "area-not-positive", f"area {area}"


def _find_polygon_fault(polygon: Any, size: tuple[int, int] | None) -> Fault | None:
    numbers = as_numbers(polygon)
    if numbers is None:
        return "mask-malformed", f"expected a list of numbers, found {shorten(polygon)}"
    if not np.isfinite(numbers).all():
        return "polygon-nonfinite", f"number {int(np.argmin(np.isfinite(numbers)))} is not finite"
    if len(numbers) % 2:
        return "polygon-odd", f"{len(numbers)} numbers"
    if len(numbers) < _MIN_NUMBERS:
        return "polygon-short", f"{len(numbers)} numbers"
    points = numbers.reshape(-1, 2)
    if _is_flat(points):
        return "polygon-flat", f"{len(points)} points on one line"
    low, high = points.min(0), points.max(0)
    if size and ((low < -_TOLERANCE).any() or (high > np.array(size) + _TOLERANCE).any()):
        span = f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
        return "polygon-outside", f"{span}; the image is {size[0]} x {size[1]}"
    return None


def _is_flat(points: NDArray[np.float64]) -> bool:
    """Return whether all points lie on one line; a self-crossing polygon may also have a signed area of 0."""
    x, y = (points - points[0]).T
    signed = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    return bool(abs(signed) < 1e-6 and np.linalg.matrix_rank(points - points[0]) < 2)
