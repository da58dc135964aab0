"""What to feed a file that says of its inputs only names, kinds and shapes, some lengths left open."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ibkd_mm.benchmark.subject import Settings, Shape
from ibkd_mm.errors import UserError

_COLOURS = (1, 3, 4)


def settle_shape(
    path: Path,
    name: str,
    lengths: Sequence[int | None],
    settings: Settings,
    own_size: tuple[int, int] | None = None,
) -> Shape:
    """Fill in what a shape leaves open; refuse what does not go with the settings.

    Args:
        path: the file, for messages.
        name: of the input.
        lengths: None where open.
        settings: of the benchmark; batch and size are those of pictures.
        own_size: height and width that the file was made for, where it leaves them open.
    """
    shown = "x".join("?" if length is None else str(length) for length in lengths)
    settled = list(lengths)
    if lengths and (lengths[0] is None or len(lengths) == 4):
        _settle(settled, 0, settings.batch)
        if settled[0] != settings.batch:
            raise UserError(
                f"{path} takes {lengths[0]} pictures at a time (input '{name}', {shown}), and the benchmark "
                f"{settings.batch}. Give --batch {lengths[0]}, or export the model with an open batch."
            )
    size = settings.size or own_size
    if len(lengths) == 4 and size:
        for axis, side in zip(_sides(lengths), size, strict=True):
            _settle(settled, axis, side)
        found = tuple(settled[axis] for axis in _sides(lengths))
        if settings.size and found != settings.size:
            wanted = "x".join(map(str, settings.size))
            raise UserError(
                f"{path} takes pictures of one size (input '{name}', {shown}), and --size asks for {wanted}. "
                "Leave --size out, or export the model with an open size."
            )
    if None in settled:
        raise UserError(
            f"{path} leaves its input '{name}' open ({shown}). "
            + (
                "Give the height and width of the pictures, such as --size 640 640."
                if len(lengths) == 4
                else "Only the batch and the size of pictures can be given here; fix the others in the file."
            )
        )
    return tuple(length for length in settled if length is not None)


def make_input(shape: Shape, kind: np.dtype) -> np.ndarray:
    """Make an input of its kind: noise for pictures, ones for whole numbers, which may be places or sizes."""
    draw = np.random.default_rng(0)
    if kind == np.uint8:
        return draw.integers(0, 256, shape, dtype=np.uint8)
    return draw.random(shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)


def _settle(lengths: list[int | None], axis: int, length: int) -> None:
    if lengths[axis] is None:
        lengths[axis] = length


def _sides(lengths: Sequence[int | None]) -> tuple[int, int]:
    """Say which axes are height and width: the last two, unless the colours come last."""
    last = lengths[3] in _COLOURS and lengths[1] not in _COLOURS
    return (1, 2) if last else (2, 3)
