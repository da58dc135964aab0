"""The student's head on maps that the teacher had a share in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.head import YOLOv10SegHead
from ibkd_mm.yolov10.structures import BranchStep


@MODELS.register_module()
class AuxiliaryHeadLoss(nn.Module):
    """What the one-to-many branch loses on (1 - e) * its own maps + e * fused ones.

    So the head learns to read what the teacher would have given it, and the student's maps to be like it.
    e falls with the factor that a schedule gives this loss. The pass leaves no trace in the statistics of
    the head's norms: the network is deployed on its own maps.

    Args:
        share: e at a factor of 1.
        loss_weight: gain.
    """

    def __init__(self, share: float = 0.5, loss_weight: float = 0.5) -> None:
        super().__init__()
        self.share, self.loss_weight, self.factor = share, loss_weight, 1.0
        self._head: list[YOLOv10SegHead] = []  # in a list, so that it is no part of this module

    def attach(self, student: nn.Module) -> None:
        """Take hold of the student's head."""
        head = getattr(student, "bbox_head", None)
        if not isinstance(head, YOLOv10SegHead):
            raise UserError(f"AuxiliaryHeadLoss is for a YOLOv10's head, found {type(head).__name__}.")
        self._head = [head]

    def forward(self, maps: Sequence[Tensor], fused: Sequence[Tensor], step: BranchStep) -> dict[str, Tensor]:
        """Run the branch once more.

        Args:
            maps: (B, C, H, W) for each level of the student's neck.
            fused: of the same shapes.
            step: of the branch on its own maps, for its ground truth.
        """
        share = self.share * self.factor
        mixed = [torch.lerp(own, other.to(own), share) for own, other in zip(maps, fused, strict=True)]
        with _kept_statistics(self._head[0]):
            losses = self._head[0].one_to_many_step(mixed, step.truth).losses
        return {name: self.loss_weight * loss for name, loss in losses.items()}


@contextmanager
def _kept_statistics(model: nn.Module) -> Iterator[None]:
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
