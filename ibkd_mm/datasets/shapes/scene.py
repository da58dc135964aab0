"""Draw one image with its instances: shapes cover each other from back to front."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ibkd_mm.datasets.shapes.outlines import CLASSES, OUTLINES, PALETTE, Contours, create_distractor
from ibkd_mm.datasets.shapes.textures import Patch, draw_texture

_SUBPIXEL_BITS = 4
_MAX_TRIES = 12  # positions that are tried for a shape before it is left out


@dataclass(frozen=True)
class Preset:
    """Difficulty of the images; ranges are (low, high)."""

    instances: tuple[int, int] = (4, 10)
    diameter: tuple[float, float] = (0.13, 0.5)  # relative to the side of the image
    distractors: tuple[int, int] = (1, 3)  # shapes that belong to no class
    regions: tuple[int, int] = (1, 3)  # textures in the background
    pattern_prob: float = 0.35  # of a pattern instead of a uniform colour
    max_stretch: float = 1.3  # ratio between a shape's two axes
    min_visible: float = 0.45  # fraction of an instance
    min_area: int = 40  # visible pixels of an instance
    noise: float = 7.0  # maximum standard deviation
    blur: float = 0.6  # maximum standard deviation in pixels
    shade: float = 0.25  # maximum strength of uneven light
    rotation: float = 0.2  # maximum of a shape, as a fraction of a full turn
    has_class_colours: bool = False  # a colour for each class, which makes it easier to learn


PRESETS = {
    "easy": Preset(
        instances=(1, 4),
        diameter=(0.22, 0.5),
        distractors=(0, 0),
        regions=(1, 1),
        pattern_prob=0.3,
        max_stretch=1.2,
        min_visible=0.7,
        min_area=64,
        noise=4.0,
        blur=0.0,
        shade=0.0,
        rotation=0.1,
        has_class_colours=True,
    ),
    "hard": Preset(),
    "hardest": Preset(
        instances=(5, 14),
        diameter=(0.09, 0.6),
        distractors=(3, 10),
        regions=(2, 6),
        pattern_prob=0.75,
        max_stretch=1.6,
        min_visible=0.35,
        noise=14.0,
        blur=0.9,
        shade=0.4,
        rotation=1.0,
    ),
}


@dataclass(frozen=True)
class Scene:
    """Image (H, W, 3) of bytes in BGR, visible masks (N, H, W) and class indices (N,), back to front."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]


def draw_scene(size: int, preset: Preset, rng: Generator) -> Scene:
    """Draw an image of `size` x `size` pixels with its instances.

    A shape that would hide too much of another one is tried at other positions and then left out.
    """
    canvas = _draw_background(size, preset, rng)
    areas: list[int] = []
    masks: list[NDArray[np.bool_]] = []
    instances: list[int] = []
    count = rng.integers(*preset.instances, endpoint=True)
    shapes: list[int | None] = list(rng.integers(len(CLASSES), size=count))
    shapes += [None] * int(rng.integers(*preset.distractors, endpoint=True))
    for label in rng.permutation(np.array(shapes, dtype=object)):
        for _ in range(_MAX_TRIES):
            contours = create_distractor(rng) if label is None else OUTLINES[CLASSES[label]]
            coverage = _rasterise(_place(contours, size, preset, rng), size)
            mask = coverage > 127
            left = [below & ~mask for below in masks]
            if label is not None and mask.sum() < preset.min_area:
                continue
            least = [max(preset.min_area, preset.min_visible * area) for area in areas]
            if all(below.sum() >= pixels for below, pixels in zip(left, least, strict=True)):
                _paint(canvas, coverage, preset, rng, label)
                masks = left
                if label is not None:
                    areas.append(int(mask.sum()))
                    masks.append(mask)
                    instances.append(label)
                break
    stacked = np.array(masks, dtype=bool).reshape(-1, size, size)
    return Scene(_photograph(canvas, preset, rng), stacked, np.array(instances, dtype=np.int64))


def _place(contours: Contours, size: int, preset: Preset, rng: Generator) -> Contours:
    """Rotate, stretch, scale (log-uniform) and shift contours into an image of `size` pixels."""
    radius = size * np.exp(rng.uniform(*map(np.log, preset.diameter))) / 2
    ratio = np.exp(rng.uniform(-0.5, 0.5) * np.log(preset.max_stretch))
    turn, tilt = rng.uniform(0, 2 * np.pi, 2)
    centre = rng.uniform(0.3 * radius, size - 0.3 * radius, 2)
    matrix = _rotation(tilt) @ np.diag([ratio, 1 / ratio]) @ _rotation(preset.rotation * turn)
    return [radius * points @ matrix.T + centre for points in contours]


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _rasterise(contours: Contours, size: int) -> NDArray[np.uint8]:
    """Return how much of each pixel the contours cover, (size, size), 0..255; holes stay open."""
    canvas = np.zeros((size, size), np.uint8)
    fixed = [np.round((points - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32) for points in contours]
    cv2.fillPoly(canvas, fixed, 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return canvas


def _paint(
    canvas: Patch, coverage: NDArray[np.uint8], preset: Preset, rng: Generator, label: int | None = None
) -> None:
    x, y, width, height = cv2.boundingRect(coverage)
    if not width:
        return
    window = np.s_[y : y + height, x : x + width]
    alpha = coverage[window][..., None].astype(np.float32) / 255
    colour = PALETTE[label][::-1] if preset.has_class_colours and label is not None else None
    texture = draw_texture(height, width, preset.pattern_prob, rng, colour)
    canvas[window] += alpha * (texture - canvas[window])


def _draw_background(size: int, preset: Preset, rng: Generator) -> Patch:
    """Draw a patchwork of textures: every pixel has that of its nearest seed."""
    count = int(rng.integers(*preset.regions, endpoint=True))
    canvas = draw_texture(size, size, preset.pattern_prob, rng)
    if count == 1:
        return canvas
    seeds = rng.uniform(0, size, (count, 2)).astype(np.float32)
    x, y = seeds.T[..., None, None]
    grid = np.arange(size, dtype=np.float32)
    nearest = ((grid[None, None] - x) ** 2 + (grid[None, :, None] - y) ** 2).argmin(0)
    for region in range(1, count):
        _paint(canvas, (nearest == region).astype(np.uint8) * 255, preset, rng)
    return canvas


def _photograph(canvas: Patch, preset: Preset, rng: Generator) -> NDArray[np.uint8]:
    """Add uneven light, blur and noise."""
    size = len(canvas)
    if preset.shade:
        direction = rng.uniform(-1, 1, 2).astype(np.float32) * np.float32(preset.shade)
        ramp = np.linspace(-1, 1, size, dtype=np.float32)
        canvas = canvas * (1 + direction[0] * ramp[None] + direction[1] * ramp[:, None])[..., None]
    sigma = rng.uniform(0, preset.blur) if preset.blur else 0.0
    if sigma > 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma).astype(np.float32, copy=False)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    canvas = canvas + noise * np.float32(rng.uniform(0, preset.noise))
    return np.clip(canvas, 0, 255).astype(np.uint8)
