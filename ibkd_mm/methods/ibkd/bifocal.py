"""Bifocal Attention Integration: the teacher's context and the student's detail in one feature map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.distill.losses.standardise import standardise
from ibkd_mm.registry import MODELS


@MODELS.register_module(name=["BifocalAttention", "BAI"])
class BifocalAttention(nn.Module):
    """Bifocal Attention Integration (BAI): a * teacher + (1 - a) * student, both standardised.

    Takes the student's feature maps behind a bridge, with the channels and sizes of the teacher's.

    Args:
        alpha: the teacher's share a; None for a gate that learns it from both, at each position of each
            level.
    """

    def __init__(self, alpha: float | None = None) -> None:
        super().__init__()
        self.alpha = alpha
        self.gates = nn.ModuleList()

    @property
    def waiting(self) -> bool:
        """Whether gates are still to be built."""
        return self.alpha is None and not self.gates

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
        """Fuse the feature maps of each level, (B, D, h, w) of both -> the same."""
        if self.waiting:
            self.gates.extend(nn.Conv2d(2 * each.shape[1], 1, 1) for each in teacher)
        return [self._fuse(level, *pair) for level, pair in enumerate(zip(student, teacher, strict=True))]

    def _fuse(self, level: int, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = standardise(student), standardise(teacher)
        if self.alpha is not None:
            return self.alpha * other + (1 - self.alpha) * own
        share = self.gates[level](torch.cat([other, own], dim=1)).sigmoid()
        return share * other + (1 - share) * own
