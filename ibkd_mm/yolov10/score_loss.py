"""Classification loss."""

from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import Assignment


@MODELS.register_module()
class AssignedScoreLoss(nn.Module):
    """Binary cross-entropy of the scores of all anchors with the assigned scores, most of which are zero.

    As BCE(z, t) = softplus(z) - t z, no dense tensor of targets is needed.
    """

    def __init__(self, *, loss_weight: float) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        class_logits: Tensor,
        assigned: Assignment,
        labels: Tensor,
        normaliser: Tensor,
        ignored_anchors: Tensor | None = None,
    ) -> Tensor:
        """Sum over all (B, classes, A) scores, divided by the normaliser, which is the sum of those assigned.

        The positives have (N,) labels. The ignored anchors, (B, A), have no loss, unless they are positives.
        """
        positive = class_logits[assigned.image, labels, assigned.anchor]
        dense = F.softplus(class_logits)
        if ignored_anchors is not None:
            dense = dense.masked_fill(ignored_anchors.unsqueeze(1), 0)
        return self.loss_weight * (dense.sum() - (positive * assigned.score).sum()) / normaliser
