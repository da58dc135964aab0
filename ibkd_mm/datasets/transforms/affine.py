"""Affine maps of the plane as 2 x 3 matrices.

Coordinates are those of boxes: pixel i of a row covers i to i + 1, so its centre lies at i + 0.5.
"""

import math

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]


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
