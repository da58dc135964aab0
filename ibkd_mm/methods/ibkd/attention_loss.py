"""Feature maps compared where the fused feature maps attend."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.distill.losses.standardise import standardise
from ibkd_mm.registry import MODELS


@MODELS.register_module()
class AttentionLoss(nn.Module):
    """Half the squared difference of standardised feature maps, weighted by the fused ones' attention.

    The attention of a position is a softmax over positions of the mean magnitude of the channels, times the
    number of positions: 1 on average. It is a weight, and no gradient flows through it.

    Args:
        temperature: of the softmax.
        loss_weight: weight of the loss.
    """

    def __init__(self, temperature: float = 0.5, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.loss_weight = temperature, loss_weight

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], fused: Sequence[Tensor]
    ) -> Tensor:
        """Return the mean over levels of (B, D, h, w) each."""
        with torch.autocast(student[0].device.type, enabled=False):
            levels = zip(student, teacher, fused, strict=True)
            losses = [self._level(*(each.float() for each in level)) for level in levels]
        return self.loss_weight * torch.stack(losses).mean()

    def _level(self, student: Tensor, teacher: Tensor, fused: Tensor) -> Tensor:
        difference = (standardise(student) - standardise(teacher)).square().mean(1)
        return (difference * attention(fused.detach(), self.temperature)).mean() / 2


def attention(x: Tensor, temperature: float) -> Tensor:
    """Return the attention of each position, (B, C, h, w) -> (B, h, w), with mean 1 in each image."""
    weights = (x.abs().mean(1).flatten(1) / temperature).softmax(1)
    return (weights * weights.shape[1]).unflatten(1, x.shape[2:])
