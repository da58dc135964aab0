"""Affine maps of the plane as 2 x 3 matrices.

Coordinates are those of boxes: pixel i of a row covers i to i + 1, so its centre lies at i + 0.5.
"""

import math

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]


def shift(x: float, y: float) -> Affine:
    """Move."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def stretch(x: float, y: float) -> Affine:
    """Scale about the origin."""
    return np.array([[x, 0.0, 0.0], [0.0, y, 0.0]])


def rotate(degrees: float) -> Affine:
    """Turn about the origin, from x towards y."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]])


def shear(x_degrees: float, y_degrees: float) -> Affine:
    """Slant rows and columns."""
    along_x, along_y = math.tan(math.radians(x_degrees)), math.tan(math.radians(y_degrees))
    return np.array([[1.0, along_x, 0.0], [along_y, 1.0, 0.0]])


def chain(*maps: Affine) -> Affine:
    """Apply one map after the other, the first given first."""
    whole = np.eye(3)
    for each in maps:
        whole = np.vstack([each, [0.0, 0.0, 1.0]]) @ whole
    return whole[:2]


def area_factor(affine: Affine) -> float:
    """By how much areas grow."""
    return abs(float(np.linalg.det(affine[:, :2])))


def is_upright(affine: Affine) -> bool:
    """Tell whether rows stay rows and columns columns."""
    return not affine[0, 1] and not affine[1, 0]


def map_boxes(affine: Affine, boxes: NDArray) -> NDArray[np.float64]:
    """Find the extents of boxes after a map, (N, 4) -> (N, 4) as x1, y1, x2, y2."""
    corners = np.asarray(boxes, np.float64)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    moved = corners @ affine[:, :2].T + affine[:, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
