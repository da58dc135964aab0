"""Random textures for shapes and background: two colours, mixed by a pattern."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Patch = NDArray[np.float32]


def _stripes(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    return (np.sin(u) > rng.uniform(-0.4, 0.4)).astype(np.float32)


def _checks(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    return (np.sin(u) * np.sin(v) > 0).astype(np.float32)


def _dots(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    return (np.cos(u) + np.cos(v) > rng.uniform(0.4, 1.0)).astype(np.float32)


def _gradient(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    low, high = float(u.min()), float(u.max())
    return (u - low) / max(high - low, 1e-6)


def _clouds(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    height, width = u.shape
    cells = int(rng.integers(3, 9))
    coarse = rng.random((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def _uniform(u: Patch, v: Patch, rng: np.random.Generator) -> Patch:
    return np.zeros_like(u)


_PATTERNS: tuple[Callable[[Patch, Patch, np.random.Generator], Patch], ...]
_PATTERNS = (_uniform, _gradient, _stripes, _checks, _dots, _clouds)


def draw_texture(
    height: int,
    width: int,
    pattern_prob: float,
    rng: np.random.Generator,
    colour: tuple[int, int, int] | None = None,
) -> Patch:
    """Draw a random texture of shape (height, width, 3) with values in 0..255.

    Args:
        height: number of rows.
        width: number of columns.
        pattern_prob: probability of a pattern instead of a uniform colour.
        rng: random generator.
        colour: colour that the texture resembles; None for any.
    """
    colours = rng.uniform(15, 240, (2, 3)).astype(np.float32)
    if colour is not None:
        colours = colours * np.float32(0.2) + np.array(colour, np.float32) * np.float32(0.8)
    colours[1] = colours[0] + (colours[1] - colours[0]) * rng.uniform(0.3, 1.0)
    draw = _PATTERNS[rng.integers(1, len(_PATTERNS))] if rng.random() < pattern_prob else _uniform
    angle, period = rng.uniform(0, np.pi), rng.uniform(4.0, 16.0)
    x = np.arange(width, dtype=np.float32)[None] * np.float32(2 * np.pi / period)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(2 * np.pi / period)
    cos, sin, phase = np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(rng.uniform(0, 6.3))
    mix = draw(x * cos + y * sin + phase, y * cos - x * sin + phase, rng)[..., None]
    return colours[0] + mix * (colours[1] - colours[0])
