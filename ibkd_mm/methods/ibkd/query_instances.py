"""Instances from the outputs of a query-mask transformer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances, boxes_from_mask_logits
from ibkd_mm.registry import MODELS


@MODELS.register_module()
class QueryInstances(nn.Module):
    """Select the confident queries of a Mask2Former as instances.

    A query's score is the teacher's own: the probability of its class times the mean probability of its mask
    where that is over 0.5. If several queries predict the same instance, the one with the highest score is
    kept.

    Args:
        score_thr: score that a query must exceed.
        max_iou: mask IoU above which two queries predict the same instance.
        stride: pixels of the input along the side of a mask cell.
    """

    def __init__(self, score_thr: float = 0.3, max_iou: float = 0.7, stride: int = 4) -> None:
        super().__init__()
        self.score_thr, self.max_iou, self.stride = score_thr, max_iou, stride

    def forward(self, outputs: Sequence[Sequence[Tensor]]) -> TeacherInstances:
        """Select the confident queries.

        Args:
            outputs: for each decoder layer (B, Q, classes + 1) class logits, the last for no object, and
                (B, Q, h, w) mask logits.
        """
        logits, masks = outputs[0][-1].float(), outputs[1][-1].float()
        with torch.autocast(masks.device.type, enabled=False):  # counts of cells exceed half precision
            return self._select(logits, masks)

    def _select(self, logits: Tensor, masks: Tensor) -> TeacherInstances:
        probabilities = logits.softmax(-1)[..., :-1]
        inside = masks > 0
        area = inside.sum((-2, -1))
        certainty = (masks.sigmoid() * inside).sum((-2, -1)) / area.clamp(min=1)
        score = probabilities.amax(-1) * certainty
        duplicate = _duplicates(inside, area, score, self.max_iou)
        image, query = ((score > self.score_thr) & (area > 0) & ~duplicate).nonzero(as_tuple=True)
        kept = masks[image, query]
        return TeacherInstances(
            image=image,
            probabilities=probabilities[image, query],
            scores=score[image, query],
            mask_logits=kept,
            boxes=boxes_from_mask_logits(kept, self.stride),
        )


def _duplicates(inside: Tensor, area: Tensor, score: Tensor, max_iou: float) -> Tensor:
    """Mark (B, Q, h, w) masks that overlap one with a higher score by more than `max_iou`: (B, Q)."""
    flat = inside.flatten(2).float()
    shared = flat @ flat.mT
    union = area[:, :, None] + area[:, None] - shared
    rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return ((shared > max_iou * union) & (rank[:, None] < rank[:, :, None])).any(-1)
