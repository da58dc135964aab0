"""Outlines of the eight classes of shapes, and of distractors that belong to no class."""

import numpy as np
from numpy.typing import NDArray

# Closed polygons of shape (K, 2) in the unit disc; a second one inside the first is a hole.
Contours = list[NDArray[np.float64]]


def _arc(radius: float, count: int, start: float = 0.0, stop: float = 2 * np.pi) -> NDArray[np.float64]:
    angles = np.linspace(start, stop, count, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Contours:
    outer, inner = _arc(1.0, 5), _arc(0.42, 5, np.pi / 5, 2 * np.pi + np.pi / 5)
    return [np.stack([outer, inner], axis=1).reshape(10, 2)]


def _cross() -> Contours:
    arm = np.array([(0.32, 0.95), (0.32, 0.32), (0.95, 0.32)])
    turned = arm[:, ::-1] * (1, -1)
    return [np.concatenate([arm, turned, -arm, -turned])]


def _crescent() -> Contours:
    """Return the unit disc minus a disc of radius 0.9 that is shifted by 0.5 along x."""
    meeting = np.arccos((1 + 0.5**2 - 0.9**2) / (2 * 0.5))
    rim = _arc(1.0, 40, meeting, 2 * np.pi - meeting)
    end = np.arctan2(-np.sin(meeting), np.cos(meeting) - 0.5) % (2 * np.pi)
    bite = _arc(0.9, 30, end, 2 * np.pi - end)
    return [np.concatenate([rim, bite + np.array([0.5, 0.0])])]


_SHAPES = {
    "disc": ((230, 60, 60), [_arc(1.0, 48)]),
    "square": ((60, 130, 240), [_arc(1.0, 4)]),
    "triangle": ((250, 190, 40), [_arc(1.0, 3)]),
    "pentagon": ((60, 190, 90), [_arc(1.0, 5)]),
    "star": ((160, 80, 220), _star()),
    "cross": ((240, 120, 40), _cross()),
    "ring": ((40, 200, 210), [_arc(1.0, 48), _arc(0.55, 32)]),
    "crescent": ((240, 90, 180), _crescent()),
}
CLASSES = tuple(_SHAPES)
PALETTE = tuple(colour for colour, _ in _SHAPES.values())  # RGB
OUTLINES = {name: contours for name, (_, contours) in _SHAPES.items()}


def create_distractor(rng: np.random.Generator) -> Contours:
    """Return the contours of a random shape of no class: a blob, a stick or a half-disc."""
    kind = rng.integers(3)
    if kind == 0:
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        waves = [rng.uniform(0.08, 0.22) * np.sin(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)]
        radius = np.clip(0.7 + np.sum(waves, axis=0), 0.2, 1.0)
        return [radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)]
    if kind == 1:
        width = rng.uniform(0.05, 0.15)
        return [np.array([(-1.0, -width), (1.0, -width), (1.0, width), (-1.0, width)])]
    return [_arc(1.0, 24, 0.0, np.pi)]
