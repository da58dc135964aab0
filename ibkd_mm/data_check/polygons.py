"""Outlines of masks, as COCO has them: `[[x1, y1, x2, y2, ...], ...]`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.values import as_numbers, shortly

TOLERANCE = 1.0
"""Pixels: annotation tools round, and count edges from 0 or from 1."""

_LEAST = 6


def polygon_faults(polygons: list[Any], size: tuple[int, int] | None) -> Iterator[Fault]:
    """Find what is wrong with the polygons of one mask, at most one thing each.

    Args:
        polygons: the mask's outlines.
        size: width and height of the image, where they are known.
    """
    for place, polygon in enumerate(polygons):
        fault = _fault(polygon, size)
        if fault:
            yield fault[0], f"polygon {place}: {fault[1]}"


def _fault(polygon: Any, size: tuple[int, int] | None) -> Fault | None:
    numbers = as_numbers(polygon)
    if numbers is None:
        return "mask-malformed", f"expected a list of numbers, found {shortly(polygon)}"
    if not np.isfinite(numbers).all():
        return "polygon-nonfinite", f"number {int(np.argmin(np.isfinite(numbers)))} is not finite"
    if len(numbers) % 2:
        return "polygon-odd", f"{len(numbers)} numbers"
    if len(numbers) < _LEAST:
        return "polygon-short", f"{len(numbers)} numbers"
    points = numbers.reshape(-1, 2)
    if _is_flat(points):
        return "polygon-flat", f"{len(points)} points on one line"
    low, high = points.min(0), points.max(0)
    if size and ((low < -TOLERANCE).any() or (high > np.array(size) + TOLERANCE).any()):
        span = f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
        return "polygon-outside", f"{span}; the image is {size[0]} x {size[1]}"
    return None


def _is_flat(points: NDArray[np.float64]) -> bool:
    """Tell whether all points lie on one line; an outline that crosses itself may have a signed area of 0."""
    x, y = (points - points[0]).T
    signed = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    return bool(abs(signed) < 1e-6 and np.linalg.matrix_rank(points - points[0]) < 2)
