"""Loss of the class scores."""

from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import Assignment


@MODELS.register_module()
class AssignedScoreLoss(nn.Module):
    """Binary cross-entropy of all scores of all anchors with the assigned ones, which are zero but for a few.

    As BCE(z, t) = softplus(z) - t z, the targets need not be spread over a map of zeros.

    Args:
        loss_weight: gain.
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
        """Sum over everything, divided by the normaliser.

        Args:
            class_logits: (B, classes, A).
            assigned: N positives.
            labels: (N,), their classes.
            normaliser: sum of the assigned scores.
            spared: (B, A), the anchors of which no score is asked for.
        """
        positive = class_logits[assigned.image, labels, assigned.anchor]
        punished = F.softplus(class_logits)
        if ignored_anchors is not None:
            punished = punished.masked_fill(ignored_anchors.unsqueeze(1), 0)
        total = punished.sum() - (positive * assigned.score).sum()
        return self.loss_weight * total / normaliser
