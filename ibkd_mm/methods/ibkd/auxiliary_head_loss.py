"""The loss of the student's head on feature maps that the teacher contributed to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.head import YOLOv10SegHead
from ibkd_mm.yolov10.structures import BranchStep


@MODELS.register_module()
class AuxiliaryHeadLoss(nn.Module):
    """Losses of the one-to-many branch on (1 - e) * the student's feature maps + e * fused ones.

    The head learns to read what the teacher would have given it, and the student's feature maps to be like
    it. The share e falls with the factor that a schedule gives this loss. The pass does not change the
    statistics of the head's norm layers: the network is deployed on its own feature maps.

    Args:
        share: e at a factor of 1.
        loss_weight: weight of the losses.
    """

    def __init__(self, share: float = 0.5, loss_weight: float = 0.5) -> None:
        super().__init__()
        self.share, self.loss_weight, self.factor = share, loss_weight, 1.0
        self._head: list[YOLOv10SegHead] = []  # in a list, so that it is not a submodule

    def attach(self, student: nn.Module) -> None:
        """Keep a reference to the student's head."""
        head = getattr(student, "bbox_head", None)
        if not isinstance(head, YOLOv10SegHead):
            raise UserError(f"AuxiliaryHeadLoss needs a YOLOv10SegHead, found {type(head).__name__}.")
        self._head = [head]

    def forward(
        self, features: Sequence[Tensor], fused: Sequence[Tensor], step: BranchStep
    ) -> dict[str, Tensor]:
        """Run the branch once more.

        Args:
            features: (B, C, H, W) for each level of the student's neck.
            fused: feature maps of the same shapes.
            step: the branch's step on its own feature maps, for its ground truth.
        """
        share = self.share * self.factor
        mixed = [torch.lerp(own, other.to(own), share) for own, other in zip(features, fused, strict=True)]
        with _frozen_statistics(self._head[0]):
            losses = self._head[0].one_to_many_step(mixed, step.truth).losses
        return {name: self.loss_weight * loss for name, loss in losses.items()}


@contextmanager
def _frozen_statistics(model: nn.Module) -> Iterator[None]:
    norms: list[Any] = [module for module in model.modules() if getattr(module, "track_running_stats", False)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
