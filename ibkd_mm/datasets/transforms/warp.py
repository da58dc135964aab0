"""Map images and masks by an affine map, computing only the visible pixels."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ibkd_mm.datasets.transforms.affine import Affine, area_factor, chain, map_boxes, shift, stretch


class Window(NamedTuple):
    """A rectangle of whole pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def is_empty(self) -> bool:
        """Return whether it contains no pixel."""
        return self.left >= self.right or self.top >= self.bottom

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Return the slices of its rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def intersect(self, other: "Window") -> "Window":
        """Return the part inside another window."""
        low = max(self.left, other.left), max(self.top, other.top)
        return Window(*low, min(self.right, other.right), min(self.bottom, other.bottom))

    def shift(self, x: int, y: int) -> "Window":
        """Return the window moved by x columns and y rows."""
        return Window(self.left + x, self.top + y, self.right + x, self.bottom + y)


def window_of_centres(box: NDArray) -> Window:
    """Return the pixels whose centres lie in a box; each pixel is in one of two adjacent boxes."""
    return Window(*(math.ceil(edge - 0.5) for edge in box))


def window_around(box: NDArray) -> Window:
    """Return the pixels that a box touches."""
    low, high = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    return Window(*low.tolist(), *high.tolist())


def warp(source: NDArray, affine: Affine, window: Window) -> NDArray:
    """Map an image (H, W) or (H, W, C) and return a window of the result, with its edges repeated.

    An image that shrinks to less than half is first averaged over whole pixels: sampling would skip some.
    """
    height, width = source.shape[:2]
    step = min(int(1 / math.sqrt(area_factor(affine))), height, width)
    if step > 1:
        small = round(width / step), round(height / step)
        source = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
        affine = chain(stretch(width / small[0], height / small[1]), affine)
    # OpenCV's origin is the centre of the first pixel
    matrix = chain(shift(0.5, 0.5), affine, shift(-0.5 - window.left, -0.5 - window.top))
    size = window.right - window.left, window.bottom - window.top
    return cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def find_visible(affine: Affine, size: tuple[int, int], window: Window) -> NDArray[np.bool_]:
    """Return which pixels of a window show a mapped image of a size (width, height)."""
    inverse = np.linalg.inv(affine[:, :2])
    x = np.arange(window.left, window.right) + 0.5 - affine[0, 2]
    y = (np.arange(window.top, window.bottom) + 0.5 - affine[1, 2])[:, None]
    columns, rows = (row[0] * x + row[1] * y for row in inverse)
    return (columns >= 0) & (columns < size[0]) & (rows >= 0) & (rows < size[1])


def extents(mask: NDArray[np.uint8]) -> Window:
    """Return the bounding window of a mask (H, W) of bytes; it is empty if the mask is."""
    if mask.flags.c_contiguous or not mask.flags.f_contiguous:
        left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask))
    else:  # as pycocotools decodes masks: the transposed one needs no copy
        top, left, height, width = cv2.boundingRect(mask.T)
    return Window(left, top, left + width, top + height)


def warp_mask(mask: NDArray[np.uint8], affine: Affine, window: Window) -> tuple[Window, NDArray[np.bool_]]:
    """Map a mask (H, W) of ones; return a part of `window` that contains the result, and its pixels."""
    found = extents(mask)
    if found.is_empty:
        return found, np.zeros((0, 0), bool)
    margin = 1 + int(1 / math.sqrt(area_factor(affine)))  # so that repeated edges are not those of the mask
    wide = Window(found.left - margin, found.top - margin, found.right + margin, found.bottom + margin)
    wide = wide.intersect(Window(0, 0, mask.shape[1], mask.shape[0]))
    place = window_around(map_boxes(affine, np.array([wide]))[0]).intersect(window)
    if place.is_empty:
        return place, np.zeros((0, 0), bool)
    cut = (mask[wide.pixels] != 0) * np.uint8(255)
    return place, warp(np.ascontiguousarray(cut), chain(shift(wide.left, wide.top), affine), place) > 127
