"""Bifocal Attention Integration: the teacher's context and the student's detail in one map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.distill.losses.standardise import standardised
from ibkd_mm.registry import MODELS


@MODELS.register_module(name=["BifocalAttention", "BAI"])
class BifocalAttention(nn.Module):
    """Bifocal Attention Integration (BAI): a * teacher + (1 - a) * student, both standardised.

    Behind a `ContextualFeatureBridge`, whose maps are of the teacher's channels and sizes.

    Args:
        alpha: what the teacher counts; None for a gate that is learnt, at each place of each level, from
            both maps.
    """

    def __init__(self, alpha: float | None = None) -> None:
        super().__init__()
        self.alpha = alpha
        self.gates = nn.ModuleList()

    @property
    def waiting(self) -> bool:
        """Whether gates are wanted and no maps were seen yet."""
        return self.alpha is None and not self.gates

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
        """Fuse, (B, D, h, w) for each level from both -> the same."""
        if self.waiting:
            self.gates.extend(nn.Conv2d(2 * each.shape[1], 1, 1) for each in teacher)
        return [self._fused(level, *pair) for level, pair in enumerate(zip(student, teacher, strict=True))]

    def _fused(self, level: int, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = standardised(student), standardised(teacher)
        if self.alpha is not None:
            return self.alpha * other + (1 - self.alpha) * own
        share = self.gates[level](torch.cat([other, own], dim=1)).sigmoid()
        return share * other + (1 - share) * own
