"""Bifocal Attention Integration: the teacher's context and the student's detail in one feature map.

One loss: feature maps bridged, fused, compared where the fused ones attend, and read by the student's head.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ibkd_mm.distill.losses import BridgedFeatureLoss
from ibkd_mm.distill.losses.standardise import standardise
from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.bridge import ContextualFeatureBridge
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.head import YOLOv10SegHead
from ibkd_mm.yolov10.structures import BranchStep


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

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
        """Fuse the feature maps of each level, (B, D, h, w) of both -> the same."""
        if self.alpha is None and not self.gates:
            self.gates.extend(nn.Conv2d(2 * each.shape[1], 1, 1) for each in teacher)
        return [self._fuse(level, *pair) for level, pair in enumerate(zip(student, teacher, strict=True))]

    def _fuse(self, level: int, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = standardise(student), standardise(teacher)
        share: Any = self.alpha
        if share is None:
            share = self.gates[level](torch.cat([other, own], dim=1)).sigmoid()
        return share * other + (1 - share) * own


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
        """Run the branch on (B, C, H, W) of each level, with the ground truth of its step on its own ones."""
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


@MODELS.register_module()
class BifocalFeatureLoss(BridgedFeatureLoss):
    """A `BridgedFeatureLoss` with Bifocal Attention Integration (BAI) on the levels that the head reads.

    Bridged feature maps and the teacher's are fused (`BifocalAttention`). The fused ones weight a second
    comparison (`loss_attention`), and are bridged back to the student's channels, where the head learns on
    them too (`loss_auxiliary`). Each of the three losses has a schedule of its own.

    Args:
        alpha: see `BifocalAttention`.
        attention: settings of `AttentionLoss`.
        auxiliary: settings of `AuxiliaryHeadLoss`.
        head_levels: how many of the levels, the first ones, are the inputs of the student's head.
        others: as for `BridgedFeatureLoss`; `loss_weight` is that of `loss_cfb` alone.
    """

    loss_names = ("loss_cfb", "loss_attention", "loss_auxiliary")

    def __init__(
        self,
        *args: Any,
        alpha: float | None = None,
        attention: Mapping[str, Any] | None = None,
        auxiliary: Mapping[str, Any] | None = None,
        head_levels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.focus, self.back = BifocalAttention(alpha), ContextualFeatureBridge()
        self.attention = AttentionLoss(**attention or {})
        self.auxiliary = AuxiliaryHeadLoss(**auxiliary or {})
        self.head = slice(head_levels)
        self.factors: Mapping[str, float] = dict.fromkeys(self.loss_names, 1.0)

    def attach(self, student: nn.Module) -> None:
        """Keep a reference to the student's head."""
        self.auxiliary.attach(student)

    def infer_channels(self, student: Any = None, teacher: Any = None, step: Any = None) -> None:
        """Build bridge, gates and way back for recorded feature maps."""
        if student is not None and teacher is not None:
            own, other = self.levels(student, teacher)
            self.back(self.focus(self.bridged(own, other)[self.head], other[self.head]), own[self.head])

    def forward(self, student: Any, teacher: Any, step: BranchStep) -> dict[str, Any]:  # type: ignore[override]
        """Compute the losses whose factor and weight are not 0; levels of the head come first."""
        own, other = self.levels(student, teacher)
        bridged = self.bridged(own, other)
        losses: dict[str, Any] = {}
        if self._counts("loss_cfb", self):
            losses["loss_cfb"] = self.compare(bridged, other)
        own, bridged, other = own[self.head], bridged[self.head], other[self.head]
        fused = self.focus(bridged, other)
        if self._counts("loss_attention", self.attention):
            losses["loss_attention"] = self.attention(bridged, other, fused)
        if self._counts("loss_auxiliary", self.auxiliary):
            self.auxiliary.factor = self.factors["loss_auxiliary"]
            losses["loss_auxiliary"] = self.auxiliary(own, self.back(fused, own), step)
        return losses

    def _counts(self, name: str, loss: Any) -> bool:
        return self.factors[name] != 0 and loss.loss_weight != 0
