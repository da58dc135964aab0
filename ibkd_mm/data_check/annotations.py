"""Check one annotation of a COCO file against the size of its image: box, area and mask."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.rle import find_rle_fault
from ibkd_mm.data_check.values import as_numbers, shorten

# pixels that a coordinate may lie outside: annotation tools round, and count edges from 0 or from 1
_TOLERANCE = 1.0
_DROPPED = {"box-empty", "box-tiny", "area-not-positive"}  # CocoDataset drops these annotations


def find_annotation_faults(
    annotation: Mapping[str, Any], size: tuple[int, int] | None, *, loads_masks: bool
) -> Iterator[Fault]:
    """Check box, area and mask of an annotation against the image's width and height, if known."""
    if annotation.get("ignore"):  # CocoDataset drops these before it reads them
        return
    found = list(_find_box_faults(annotation.get("bbox"), size))
    area: Any = annotation.get("area")
    if type(area) not in (int, float):
        found.append(("entry-malformed", f"expected a number as area, found {shorten(area)}"))
    elif not area > 0:
        found.append(("area-not-positive", f"area {area}"))
    yield from found
    if annotation.get("segmentation"):
        yield from _find_mask_faults(annotation["segmentation"], size)
    elif loads_masks and not _DROPPED.intersection(kind for kind, _ in found):
        yield "mask-missing", ""


def _find_mask_faults(segmentation: Any, size: tuple[int, int] | None) -> Iterator[Fault]:
    if isinstance(segmentation, dict):
        if fault := find_rle_fault(segmentation, size):
            yield fault
    elif not isinstance(segmentation, list):
        yield "mask-malformed", f"found {type(segmentation).__name__}"
    elif as_numbers(segmentation) is not None:
        yield "mask-malformed", "expected a list of polygons, found one list of numbers: put it in [ ]"
    else:
        for index, polygon in enumerate(segmentation):
            if fault := _find_polygon_fault(polygon, size):
                yield fault[0], f"polygon {index}: {fault[1]}"


def _find_box_faults(box: Any, size: tuple[int, int] | None) -> Iterator[Fault]:
    numbers = as_numbers(box)
    if numbers is None or len(numbers) != 4:
        yield "entry-malformed", f"expected bbox [x, y, width, height], found {shorten(box)}"
        return
    if not np.isfinite(numbers).all():
        yield "box-nonfinite", f"{box}"
        return
    x, y, width, height = map(float, numbers)
    if min(width, height) < 1:
        yield "box-empty" if min(width, height) <= 0 else "box-tiny", f"{box}"
    if size and _is_outside((x, y), (x + width, y + height), size):
        yield "box-outside", f"{box}; the image is {size[0]} x {size[1]}"


def _find_polygon_fault(polygon: Any, size: tuple[int, int] | None) -> Fault | None:
    numbers = as_numbers(polygon)
    if numbers is None:
        return "mask-malformed", f"expected a list of numbers, found {shorten(polygon)}"
    if not np.isfinite(numbers).all():
        return "polygon-nonfinite", f"number {int(np.argmin(np.isfinite(numbers)))} is not finite"
    if len(numbers) % 2:
        return "polygon-odd", f"{len(numbers)} numbers"
    if len(numbers) < 6:
        return "polygon-short", f"{len(numbers)} numbers"
    points = numbers.reshape(-1, 2)
    x, y = (points - points[0]).T
    signed_area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()  # also 0 if the polygon crosses itself
    if abs(signed_area) < 1e-6 and np.linalg.matrix_rank(points - points[0]) < 2:
        return "polygon-flat", f"{len(points)} points on one line"
    low, high = points.min(0), points.max(0)
    if size and _is_outside(low, high, size):
        span = f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
        return "polygon-outside", f"{span}; the image is {size[0]} x {size[1]}"
    return None


def _is_outside(low: Iterable[float], high: Iterable[float], size: tuple[int, int]) -> bool:
    is_beyond = any(end > side + _TOLERANCE for end, side in zip(high, size, strict=True))
    return is_beyond or min(low) < -_TOLERANCE
