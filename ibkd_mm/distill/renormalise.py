"""A student's batch as its teacher would have been given it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ibkd_mm.errors import UserError


class Renormaliser:
    """Turns what the student's preprocessor made into what the teacher's would have made.

    Mean, standard deviation, order of channels and the value of padding are the teacher's own. Sizes stay
    the student's, so that their maps lie on each other.

    Args:
        student: its data preprocessor.
        teacher: its own.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        _check_divisor(student, teacher)
        self.student, self.teacher = student, teacher
        self.flip = _flips(student) != _flips(teacher)

    def __call__(self, inputs: Tensor, samples: Sequence[Any]) -> Tensor:
        """Renormalise, (B, 3, H, W) -> the same shape.

        Args:
            inputs: of the student.
            samples: what the pipeline noted of each picture; `img_shape` says where padding begins.
        """
        mean, std = _statistics(self.student, inputs)
        pixels = inputs * std + mean
        if self.flip:
            pixels = pixels.flip(1)
        mean, std = _statistics(self.teacher, inputs)
        pixels = (pixels - mean) / std
        return torch.where(_padding(inputs, samples), _pad_value(self.teacher), pixels)


def _statistics(preprocessor: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    """Give mean and deviation as (1, C, 1, 1); 0 and 1 where nothing is normalised."""
    if not getattr(preprocessor, "_enable_normalize", False):
        return like.new_zeros(1), like.new_ones(1)
    return (getattr(preprocessor, name).to(like).reshape(1, -1, 1, 1) for name in ("mean", "std"))  # type: ignore[return-value]


def _flips(preprocessor: nn.Module) -> bool:
    return bool(getattr(preprocessor, "_channel_conversion", False))


def _padding(inputs: Tensor, samples: Sequence[Any]) -> Tensor:
    """Mark what was padded, at the bottom and on the right: (B, 1, H, W)."""
    shapes = [sample.metainfo["img_shape"][:2] for sample in samples]
    heights, widths = torch.tensor(shapes, device=inputs.device).T[..., None]
    below = torch.arange(inputs.shape[2], device=inputs.device) >= heights
    beside = torch.arange(inputs.shape[3], device=inputs.device) >= widths
    return (below[:, :, None] | beside[:, None, :])[:, None]


def _pad_value(preprocessor: nn.Module) -> float:
    """Say what the teacher's pictures are padded with, among its normalised values."""
    return float(getattr(preprocessor, "pad_value", 0))


def _check_divisor(student: nn.Module, teacher: nn.Module) -> None:
    own, wanted = (getattr(each, "pad_size_divisor", None) or 1 for each in (student, teacher))
    if own % wanted:
        raise UserError(
            f"The teacher takes pictures whose sides divide by {wanted}; the student's batches are padded to "
            f"multiples of {own}. Set the student's data_preprocessor.pad_size_divisor={wanted}."
        )
