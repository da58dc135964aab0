"""Maps compared where the fused ones attend."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.distill.losses.standardise import standardised
from ibkd_mm.registry import MODELS


@MODELS.register_module()
class AttentionLoss(nn.Module):
    """Half the squared difference of standardised maps, weighed by the attention of the fused ones.

    The attention of a place is a softmax over places of the mean magnitude of the channels, times the number
    of places: one on average. It is a weight, and no gradient flows through it.

    Args:
        temperature: of the softmax.
        loss_weight: gain.
    """

    def __init__(self, temperature: float = 0.5, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.loss_weight = temperature, loss_weight

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], fused: Sequence[Tensor]
    ) -> Tensor:
        """Compare (B, D, h, w) for each level, the mean over levels."""
        with torch.autocast(student[0].device.type, enabled=False):
            levels = zip(student, teacher, fused, strict=True)
            losses = [self._level(*(each.float() for each in level)) for level in levels]
        return self.loss_weight * torch.stack(losses).mean()

    def _level(self, student: Tensor, teacher: Tensor, fused: Tensor) -> Tensor:
        apart = (standardised(student) - standardised(teacher)).square().mean(1)
        return (apart * attention(fused.detach(), self.temperature)).mean() / 2


def attention(x: Tensor, temperature: float) -> Tensor:
    """Attention of each place, (B, C, h, w) -> (B, h, w), of mean one in each picture."""
    places = (x.abs().mean(1).flatten(1) / temperature).softmax(1)
    return (places * places.shape[1]).unflatten(1, x.shape[2:])
