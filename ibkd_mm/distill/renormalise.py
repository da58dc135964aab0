"""A student's batch, normalised and padded as the teacher's preprocessor would have done it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ibkd_mm.errors import UserError
from ibkd_mm.stack.internals import Normalisation, read_normalisation


class Renormaliser:
    """Converts the output of the student's preprocessor into that of the teacher's.

    Mean, standard deviation, channel order and pad value become the teacher's. Sizes stay the student's, so
    that feature maps of both cover the same area.

    Args:
        student: data preprocessor of the student.
        teacher: data preprocessor of the teacher.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student, self.teacher = student, teacher
        own, other = read_normalisation(student), read_normalisation(teacher)
        if own.pad_divisor % other.pad_divisor:
            raise UserError(
                f"The teacher takes images whose sides are multiples of {other.pad_divisor}; the student's "
                f"batches are padded to multiples of {own.pad_divisor}. Set the student's "
                f"data_preprocessor.pad_size_divisor={other.pad_divisor}."
            )
        self.swap_channels = own.swaps_channels != other.swaps_channels

    def __call__(self, inputs: Tensor, samples: Sequence[Any] | None) -> Tensor:
        """Renormalise, (B, 3, H, W) -> the same shape.

        Args:
            inputs: batch of the student.
            samples: data samples; their `img_shape` is where padding begins. Without it nothing is padding.
        """
        own, other = read_normalisation(self.student), read_normalisation(self.teacher)
        mean, std = _statistics(own, inputs)
        pixels = inputs * std + mean
        if self.swap_channels:
            pixels = pixels.flip(1)
        mean, std = _statistics(other, inputs)
        pixels = (pixels - mean) / std
        padding = _padding(inputs, samples)
        return pixels if padding is None else torch.where(padding, other.pad_value, pixels)


def _statistics(normalisation: Normalisation, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation as (1, C, 1, 1); 0 and 1 without normalisation."""
    if normalisation.mean is None or normalisation.std is None:
        return like.new_zeros(1), like.new_ones(1)
    return tuple(part.to(like).reshape(1, -1, 1, 1) for part in normalisation[:2])  # type: ignore[return-value, union-attr]


def _padding(inputs: Tensor, samples: Sequence[Any] | None) -> Tensor | None:
    """Mark the pixels that were padded, at the bottom and on the right: (B, 1, H, W)."""
    metas = [getattr(sample, "metainfo", {}) for sample in samples or ()]
    if not metas or not all("img_shape" in meta for meta in metas):
        return None
    shapes = [meta["img_shape"][:2] for meta in metas]
    heights, widths = torch.tensor(shapes, device=inputs.device).T[..., None]
    below = torch.arange(inputs.shape[2], device=inputs.device) >= heights
    beside = torch.arange(inputs.shape[3], device=inputs.device) >= widths
    return (below[:, :, None] | beside[:, None, :])[:, None]
