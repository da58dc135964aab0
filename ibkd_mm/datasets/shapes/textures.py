"""Random textures for shapes and background: two colours, mixed by a pattern."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Patch = NDArray[np.float32]
Colour = tuple[int, int, int]


def _gradient(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    low, high = float(u.min()), float(u.max())
    return (u - low) / max(high - low, 1e-6)


def _clouds(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    cells = int(rng.integers(3, 9))
    coarse = rng.random((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, u.shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


_PATTERNS: tuple[Callable[[Patch, Patch, np.random.Generator], Any], ...] = (
    _gradient,
    lambda u, v, rng: np.sin(u) > rng.uniform(-0.4, 0.4),  # stripes
    lambda u, v, rng: np.sin(u) * np.sin(v) > 0,  # checks
    lambda u, v, rng: np.cos(u) + np.cos(v) > rng.uniform(0.4, 1.0),  # dots
    _clouds,
)


def draw_texture(
    height: int, width: int, pattern_prob: float, rng: np.random.Generator, colour: Colour | None = None
) -> Patch:
    """Draw a random texture (height, width, 3) of 0..255, which resembles a colour or has a uniform one."""
    colours = rng.uniform(15, 240, (2, 3)).astype(np.float32)
    if colour is not None:
        colours = colours * np.float32(0.2) + np.array(colour, np.float32) * np.float32(0.8)
    colours[1] = colours[0] + (colours[1] - colours[0]) * rng.uniform(0.3, 1.0)
    draw = _PATTERNS[rng.integers(len(_PATTERNS))] if rng.random() < pattern_prob else None
    angle, period = rng.uniform(0, np.pi), rng.uniform(4.0, 16.0)
    x = np.arange(width, dtype=np.float32)[None] * np.float32(2 * np.pi / period)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(2 * np.pi / period)
    cos, sin, phase = np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(rng.uniform(0, 6.3))
    u, v = x * cos + y * sin + phase, y * cos - x * sin + phase
    mix = draw(u, v, rng).astype(np.float32)[..., None] if draw else np.zeros((height, width, 1), np.float32)
    return colours[0] + mix * (colours[1] - colours[0])
