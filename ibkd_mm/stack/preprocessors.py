"""How mmengine's, mmdet's and mmseg's data preprocessors normalise, read from their private attributes."""

from typing import NamedTuple

from torch import Tensor, nn


class Normalisation(NamedTuple):
    """What a data preprocessor does to the pixels of a batch."""

    mean: Tensor | None
    """(C,), or None if it does not normalise."""
    std: Tensor | None
    swaps_channels: bool
    """Whether it turns BGR into RGB or the reverse."""
    pad_value: float
    pad_divisor: int
    """Heights and widths are padded to multiples of it."""


def read_normalisation(preprocessor: nn.Module) -> Normalisation:
    """Read what a data preprocessor does.

    No preprocessor has a public way to ask; can go when one has. mmseg's names differ from mmengine's.
    """
    normalises = getattr(preprocessor, "_enable_normalize", False)
    mean, std = (getattr(preprocessor, name).flatten() if normalises else None for name in ("mean", "std"))
    swaps = any(getattr(preprocessor, name, False) for name in ("_channel_conversion", "channel_conversion"))
    pad_value = getattr(preprocessor, "pad_value", getattr(preprocessor, "pad_val", 0))
    return Normalisation(
        mean, std, swaps, float(pad_value), getattr(preprocessor, "pad_size_divisor", None) or 1
    )
