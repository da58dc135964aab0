"""Inputs for a file that declares only names, types and shapes, some lengths left open."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings, Shape
from ibkd_mm.errors import UserError

_CHANNELS = (1, 3, 4)


def resolve_shape(
    path: Path,
    name: str,
    shape: Sequence[int | None],
    settings: BenchmarkSettings,
    default_size: tuple[int, int] | None = None,
) -> Shape:
    """Fill in the open lengths (None) of a shape; refuse a shape that contradicts the settings.

    `default_size` is the height and width that the file was made for, if its size is open.
    """
    declared = "x".join("?" if length is None else str(length) for length in shape)
    resolved, is_image = list(shape), len(shape) == 4
    if shape and (shape[0] is None or is_image):
        resolved[0] = settings.batch if shape[0] is None else shape[0]
        if resolved[0] != settings.batch:
            raise UserError(
                f"Expected --batch {shape[0]} for {path} (input '{name}', {declared}), found "
                f"{settings.batch}. To use another batch, export the model with an open one."
            )
    size = settings.size or default_size
    if is_image and size:
        # the channels are the last axis, or the second
        first = 1 if shape[3] in _CHANNELS and shape[1] not in _CHANNELS else 2
        for axis, side in zip((first, first + 1), size, strict=True):
            resolved[axis] = side if shape[axis] is None else shape[axis]
        height, width = resolved[first : first + 2]
        if settings.size and (height, width) != settings.size:
            raise UserError(
                f"Expected --size {height} {width} for {path} (input '{name}', {declared}), found "
                f"{settings.size[0]} {settings.size[1]}. For another size, export the model with an open one."
            )
    if None in resolved:
        remedy = "Only the batch and the image size can be set here; fix the other lengths in the file."
        if is_image:
            remedy = "Set the height and width of the images, such as --size 640 640."
        raise UserError(f"The shape of input '{name}' of {path} is open ({declared}). {remedy}")
    return tuple(length for length in resolved if length is not None)


def make_input(shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Return noise for floats and bytes, and ones for other integers, which may be indices or sizes."""
    generator = np.random.default_rng(0)
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return generator.random(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
