"""Bifocal Attention Integration as one loss: feature maps bridged, fused, compared, and read by the head."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ibkd_mm.distill.losses import BridgedFeatureLoss
from ibkd_mm.methods.ibkd.attention_loss import AttentionLoss
from ibkd_mm.methods.ibkd.auxiliary_head_loss import AuxiliaryHeadLoss
from ibkd_mm.methods.ibkd.bifocal import BifocalAttention
from ibkd_mm.methods.ibkd.bridge import ContextualFeatureBridge
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import BranchStep


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
        self.focus = BifocalAttention(alpha)
        self.back = ContextualFeatureBridge()
        self.attention, self.auxiliary = (
            AttentionLoss(**attention or {}),
            AuxiliaryHeadLoss(**auxiliary or {}),
        )
        self.head_levels = head_levels
        self.factors: Mapping[str, float] = dict.fromkeys(self.loss_names, 1.0)

    def attach(self, student: nn.Module) -> None:
        """Keep a reference to the student's head."""
        self.auxiliary.attach(student)

    def infer_channels(self, student: Any = None, teacher: Any = None, step: Any = None) -> None:
        """Build bridge, gates and way back for recorded feature maps."""
        if student is not None and teacher is not None:
            own, other = self.levels(student, teacher)
            head = slice(self.head_levels)
            self.back(self.focus(self.bridged(own, other)[head], other[head]), own[head])

    def forward(self, student: Any, teacher: Any, step: BranchStep) -> dict[str, Any]:  # type: ignore[override]
        """Compute the losses whose factor and weight are not 0.

        Args:
            student: feature maps, those of the head first.
            teacher: feature maps.
            step: step of the student's one-to-many branch, for its ground truth.
        """
        own, other = self.levels(student, teacher)
        bridged = self.bridged(own, other)
        losses: dict[str, Any] = {}
        if self._counts("loss_cfb", self):
            losses["loss_cfb"] = self.compare(bridged, other)
        head = slice(self.head_levels)
        fused: list[Tensor] = self.focus(bridged[head], other[head])
        if self._counts("loss_attention", self.attention):
            losses["loss_attention"] = self.attention(bridged[head], other[head], fused)
        if self._counts("loss_auxiliary", self.auxiliary):
            self.auxiliary.factor = self.factors["loss_auxiliary"]
            losses["loss_auxiliary"] = self.auxiliary(own[head], self.back(fused, own[head]), step)
        return losses

    def _counts(self, name: str, loss: Any) -> bool:
        return self.factors[name] != 0 and loss.loss_weight != 0
