"""Pearson correlation of maps, over all processes."""

from mmrazor.models.losses import PKDLoss
from torch import Tensor

from ibkd_mm.distill.losses.standardise import standardised
from ibkd_mm.registry import MODELS


@MODELS.register_module()
class SyncedPKDLoss(PKDLoss):
    """mmrazor's `PKDLoss` (https://arxiv.org/abs/2207.02039), equal whatever the number of processes.

    Each channel is standardised over the whole batch, of which a process has a part only.
    """

    def norm(self, feat: Tensor) -> Tensor:
        """Standardise every channel, (N, C, H, W) -> the same shape."""
        return standardised(feat)
