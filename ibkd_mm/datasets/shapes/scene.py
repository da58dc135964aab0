"""One picture with its instances: things are laid over each other from back to front."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ibkd_mm.datasets.shapes.outlines import CLASSES, PALETTE, Contours, distractor, outline
from ibkd_mm.datasets.shapes.textures import Patch, texture

_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Preset:
    """How hard the pictures are. Lengths are shares of the picture's side; ranges are (low, high)."""

    instances: tuple[int, int]
    diameter: tuple[float, float]
    distractors: tuple[int, int]
    regions: tuple[int, int]
    patterned: float
    stretch: float
    """Largest ratio of a shape's two axes."""
    min_visible: float
    """No instance is covered so far that less than this share of it is seen."""
    min_area: int
    """... or less than this many pixels."""
    noise: float
    blur: float
    shade: float
    turn: float
    """How far shapes are turned at random, as a share of a whole turn."""
    coloured: bool
    """Whether each class has a colour of its own, so that there is less to learn."""


PRESETS = {
    "easy": Preset(
        instances=(1, 4),
        diameter=(0.22, 0.5),
        distractors=(0, 0),
        regions=(1, 1),
        patterned=0.3,
        stretch=1.2,
        min_visible=0.7,
        min_area=64,
        noise=4.0,
        blur=0.0,
        shade=0.0,
        turn=0.1,
        coloured=True,
    ),
    "hard": Preset(
        instances=(4, 10),
        diameter=(0.13, 0.5),
        distractors=(1, 3),
        regions=(1, 3),
        patterned=0.35,
        stretch=1.3,
        min_visible=0.45,
        min_area=40,
        noise=7.0,
        blur=0.6,
        shade=0.25,
        turn=0.2,
        coloured=False,
    ),
    "hardest": Preset(
        instances=(5, 14),
        diameter=(0.09, 0.6),
        distractors=(3, 10),
        regions=(2, 6),
        patterned=0.75,
        stretch=1.6,
        min_visible=0.35,
        min_area=40,
        noise=14.0,
        blur=0.9,
        shade=0.4,
        turn=1.0,
        coloured=False,
    ),
}


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) of bytes in BGR, visible masks (N, H, W) and class indices (N,), back to front."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]


def _placed(contours: Contours, size: int, preset: Preset, rng: np.random.Generator) -> Contours:
    """Rotate, stretch, scale (log-uniform) and move contours into a picture of `size` pixels."""
    low, high = np.log(preset.diameter[0]), np.log(preset.diameter[1])
    radius = size * np.exp(rng.uniform(low, high)) / 2
    ratio = np.exp(rng.uniform(-0.5, 0.5) * np.log(preset.stretch))
    turn, tilt = rng.uniform(0, 2 * np.pi, 2)
    centre = rng.uniform(0.3 * radius, size - 0.3 * radius, 2)
    rotation = _rotation(tilt) @ np.diag([ratio, 1 / ratio]) @ _rotation(preset.turn * turn)
    return [radius * points @ rotation.T + centre for points in contours]


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _coverage(contours: Contours, size: int) -> NDArray[np.uint8]:
    """How much of each pixel the contours cover, (size, size), 0..255. Holes are left open."""
    canvas = np.zeros((size, size), np.uint8)
    fixed = [np.round((points - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32) for points in contours]
    cv2.fillPoly(canvas, fixed, 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return canvas


def _paint(
    canvas: Patch,
    coverage: NDArray[np.uint8],
    preset: Preset,
    rng: np.random.Generator,
    label: int | None = None,
) -> None:
    x, y, width, height = cv2.boundingRect(coverage)
    if not width:
        return
    window = np.s_[y : y + height, x : x + width]
    alpha = coverage[window][..., None].astype(np.float32) / 255
    colour = PALETTE[label][::-1] if preset.coloured and label is not None else None
    canvas[window] += alpha * (texture(height, width, preset.patterned, rng, colour) - canvas[window])


def _ground(size: int, preset: Preset, rng: np.random.Generator) -> Patch:
    """A patchwork of textures: every pixel takes that of its nearest seed."""
    count = int(rng.integers(preset.regions[0], preset.regions[1] + 1))
    canvas = texture(size, size, preset.patterned, rng)
    if count == 1:
        return canvas
    seeds = rng.uniform(0, size, (count, 2)).astype(np.float32)
    grid = np.arange(size, dtype=np.float32)
    distance = (grid[None, None] - seeds[:, 0, None, None]) ** 2 + (
        grid[None, :, None] - seeds[:, 1, None, None]
    ) ** 2
    owner = distance.argmin(0)
    for region in range(1, count):
        _paint(canvas, (owner == region).astype(np.uint8) * 255, preset, rng)
    return canvas


def _photograph(canvas: Patch, preset: Preset, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light, a soft lens and a noisy sensor."""
    size = len(canvas)
    if preset.shade:
        direction = rng.uniform(-1, 1, 2).astype(np.float32) * np.float32(preset.shade)
        ramp = np.linspace(-1, 1, size, dtype=np.float32)
        canvas = canvas * (1 + direction[0] * ramp[None] + direction[1] * ramp[:, None])[..., None]
    sigma = rng.uniform(0, preset.blur) if preset.blur else 0.0
    if sigma > 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma).astype(np.float32, copy=False)
    canvas = canvas + rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(
        rng.uniform(0, preset.noise)
    )
    return np.clip(canvas, 0, 255).astype(np.uint8)


class _Layers:
    """The visible part of everything that has been laid down so far."""

    def __init__(self, preset: Preset) -> None:
        self._preset = preset
        self._full: list[int] = []
        self.masks: list[NDArray[np.bool_]] = []
        self.labels: list[int] = []

    def accepts(self, mask: NDArray[np.bool_], as_instance: bool) -> bool:
        """Whether all instances stay visible enough when `mask` is laid on top."""
        if as_instance and mask.sum() < self._preset.min_area:
            return False
        for full, below in zip(self._full, self.masks, strict=True):
            left = int((below & ~mask).sum())
            if left < max(self._preset.min_area, self._preset.min_visible * full):
                return False
        return True

    def lay(self, mask: NDArray[np.bool_], label: int | None) -> None:
        """Put `mask` on top, as an instance of class `label` or as something nameless."""
        self.masks = [below & ~mask for below in self.masks]
        if label is not None:
            self._full.append(int(mask.sum()))
            self.masks.append(mask)
            self.labels.append(label)


def draw(size: int, preset: Preset, rng: np.random.Generator, tries: int = 12) -> Scene:
    """Draw one picture of `size` x `size`; all that is drawn of the eight classes is annotated.

    A thing that would hide another too far is tried `tries` times elsewhere and then left out.
    """
    canvas = _ground(size, preset, rng)
    layers = _Layers(preset)
    things: list[int | None] = list(
        rng.integers(len(CLASSES), size=rng.integers(*preset.instances, endpoint=True))
    )
    things += [None] * int(rng.integers(*preset.distractors, endpoint=True))
    for thing in rng.permutation(np.array(things, dtype=object)):
        for _ in range(tries):
            shape = distractor(rng) if thing is None else outline(CLASSES[thing])
            coverage = _coverage(_placed(shape, size, preset, rng), size)
            mask = coverage > 127
            if layers.accepts(mask, as_instance=thing is not None):
                _paint(canvas, coverage, preset, rng, thing)
                layers.lay(mask, thing)
                break
    masks = np.array(layers.masks, dtype=bool).reshape(-1, size, size)
    return Scene(_photograph(canvas, preset, rng), masks, np.array(layers.labels, dtype=np.int64))
