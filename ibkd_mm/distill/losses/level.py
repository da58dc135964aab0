"""A loss of maps, over the levels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ibkd_mm.registry import MODELS


@MODELS.register_module()
class LevelLoss(nn.Module):
    """The sum over levels of any loss that takes `preds_S` and `preds_T`, mmrazor's or ours.

    Args:
        loss: of one level, such as `dict(type='mmrazor.ChannelWiseDivergence', tau=1.0)`.
        loss_weight: gain of each level.
    """

    def __init__(self, loss: Mapping[str, Any], loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss = MODELS.build(dict(loss))
        self.loss_weight = loss_weight

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare (B, C, H, W) with (B, C, H, W) for each level; in float32 whatever the network runs in."""
        with torch.autocast(student[0].device.type, enabled=False):
            # a transformer's maps lie in another order, and mmrazor's losses ask for views
            levels = (
                [each.float().contiguous() for each in pair] for pair in zip(student, teacher, strict=True)
            )
            losses = [self.loss(own, other) for own, other in levels]
        return self.loss_weight * torch.stack(losses).sum()
