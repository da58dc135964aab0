"""Affine maps of the plane, and images and masks mapped by them, of which only visible pixels are computed.

Coordinates are those of boxes: pixel i of a row covers i to i + 1, so its centre lies at i + 0.5.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]  # 2 x 3


def shift(x: float, y: float) -> Affine:
    """Return a translation."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def stretch(x: float, y: float) -> Affine:
    """Return a scaling about the origin."""
    return np.array([[x, 0.0, 0.0], [0.0, y, 0.0]])


def rotate(degrees: float) -> Affine:
    """Return a rotation about the origin, from x towards y."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]])


def shear(x_degrees: float, y_degrees: float) -> Affine:
    """Return a shear of rows and columns."""
    along_x, along_y = math.tan(math.radians(x_degrees)), math.tan(math.radians(y_degrees))
    return np.array([[1.0, along_x, 0.0], [along_y, 1.0, 0.0]])


def chain(*maps: Affine) -> Affine:
    """Combine maps; the first one is applied first."""
    combined = np.eye(3)
    for affine in maps:
        combined = np.vstack([affine, [0.0, 0.0, 1.0]]) @ combined
    return combined[:2]


def area_factor(affine: Affine) -> float:
    """Return the factor by which a map changes areas."""
    return abs(float(np.linalg.det(affine[:, :2])))


def is_upright(affine: Affine) -> bool:
    """Return whether rows stay rows and columns stay columns."""
    return not affine[0, 1] and not affine[1, 0]


def map_boxes(affine: Affine, boxes: NDArray) -> NDArray[np.float64]:
    """Return the bounding boxes of mapped boxes, (N, 4) -> (N, 4) as x1, y1, x2, y2."""
    corners = np.asarray(boxes, np.float64)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    mapped = corners @ affine[:, :2].T + affine[:, 2]
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1)


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
    return Window(*(math.floor(edge) for edge in box[:2]), *(math.ceil(edge) for edge in box[2:]))


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
