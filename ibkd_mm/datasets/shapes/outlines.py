"""What the shapes look like: the eight classes, and the distractors that belong to none."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Contours = list[NDArray[np.float64]]
"""Closed polygons of shape (K, 2) in the unit disc; a second one inside the first is a hole."""

CLASSES = ("disc", "square", "triangle", "pentagon", "star", "cross", "ring", "crescent")
PALETTE = (
    (230, 60, 60),
    (60, 130, 240),
    (250, 190, 40),
    (60, 190, 90),
    (160, 80, 220),
    (240, 120, 40),
    (40, 200, 210),
    (240, 90, 180),
)
"""An RGB colour for each class."""


def _arc(radius: float, start: float, stop: float, count: int) -> NDArray[np.float64]:
    angles = np.linspace(start, stop, count, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _polygon(corners: int) -> Contours:
    return [_arc(1.0, 0.0, 2 * np.pi, corners)]


def _star() -> Contours:
    outer, inner = _arc(1.0, 0.0, 2 * np.pi, 5), _arc(0.42, np.pi / 5, 2 * np.pi + np.pi / 5, 5)
    return [np.stack([outer, inner], axis=1).reshape(10, 2)]


def _cross() -> Contours:
    a, b = 0.32, 0.95
    corners = [
        (a, b),
        (a, a),
        (b, a),
        (b, -a),
        (a, -a),
        (a, -b),
        (-a, -b),
        (-a, -a),
        (-b, -a),
        (-b, a),
        (-a, a),
    ]
    return [np.array([*corners, (-a, b)])]


def _ring() -> Contours:
    return [_arc(1.0, 0.0, 2 * np.pi, 48), _arc(0.55, 0.0, 2 * np.pi, 32)]


def _crescent() -> Contours:
    """The unit disc less a disc of radius 0.9 that is moved by 0.5 along x."""
    meeting = np.arccos((1 + 0.5**2 - 0.9**2) / (2 * 0.5))
    rim = _arc(1.0, meeting, 2 * np.pi - meeting, 40)
    end = np.arctan2(-np.sin(meeting), np.cos(meeting) - 0.5)
    bite = _arc(0.9, end % (2 * np.pi), 2 * np.pi - end % (2 * np.pi), 30)
    return [np.concatenate([rim, bite + np.array([0.5, 0.0])])]


_OUTLINES: dict[str, Callable[[], Contours]] = {
    "disc": lambda: _polygon(48),
    "square": lambda: _polygon(4),
    "triangle": lambda: _polygon(3),
    "pentagon": lambda: _polygon(5),
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
}


def outline(name: str) -> Contours:
    """The contours of one class, centred, inside the unit disc."""
    return _OUTLINES[name]()


def distractor(rng: np.random.Generator) -> Contours:
    """The contours of something that is none of the classes: a blob, a stick or a half-disc."""
    kind = rng.integers(3)
    if kind == 0:
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        waves = [rng.uniform(0.08, 0.22) * np.sin(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)]
        radius = np.clip(0.7 + np.sum(waves, axis=0), 0.2, 1.0)
        return [radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)]
    if kind == 1:
        width = rng.uniform(0.05, 0.15)
        return [np.array([(-1.0, -width), (1.0, -width), (1.0, width), (-1.0, width)])]
    return [_arc(1.0, 0.0, np.pi, 24)]
