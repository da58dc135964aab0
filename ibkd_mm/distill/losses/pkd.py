"""Pearson correlation of feature maps, over the batches of all processes."""

from mmrazor.models.losses import PKDLoss
from torch import Tensor

from ibkd_mm.distill.losses.standardise import standardise
from ibkd_mm.registry import MODELS


@MODELS.register_module()
class SyncedPKDLoss(PKDLoss):
    """mmrazor's `PKDLoss` (https://arxiv.org/abs/2207.02039), independent of the number of processes.

    PKD standardises each channel over the whole batch, of which a process has only a part.
    """

    def norm(self, feat: Tensor) -> Tensor:
        """Standardise every channel, (N, C, H, W) -> the same shape."""
        return standardise(feat)
