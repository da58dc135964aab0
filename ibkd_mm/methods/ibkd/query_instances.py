"""From what a query-mask transformer puts out to instances."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances, boxes_from_mask_logits
from ibkd_mm.registry import MODELS


@MODELS.register_module()
class QueryInstances(nn.Module):
    """The instances that the queries of a Mask2Former are sure of.

    A query's score is the probability of its class times the mean probability of its mask, where that is
    over a half: the teacher's own measure. Several queries may be sure of the same instance; the one with the
    highest score then speaks for all.

    Args:
        score_thr: what the score must exceed.
        max_iou: IoU of masks above which two are of the same instance.
        stride: pixels of the input along the side of a mask's cell.
    """

    def __init__(self, score_thr: float = 0.3, max_iou: float = 0.7, stride: int = 4) -> None:
        super().__init__()
        self.score_thr, self.max_iou, self.stride = score_thr, max_iou, stride

    def forward(self, outputs: Sequence[Sequence[Tensor]]) -> TeacherInstances:
        """Keep the queries that are sure.

        Args:
            outputs: (B, Q, classes + 1) logits of each layer of the decoder, the last for no object, and
                (B, Q, h, w) logits of each.
        """
        logits, masks = outputs[0][-1].float(), outputs[1][-1].float()
        with torch.autocast(masks.device.type, enabled=False):  # cells are counted, past what a half holds
            return self._sure(logits, masks)

    def _sure(self, logits: Tensor, masks: Tensor) -> TeacherInstances:
        probabilities = logits.softmax(-1)[..., :-1]
        shares = masks.sigmoid()
        inside = masks > 0
        area = inside.sum((-2, -1))
        sureness = (shares * inside).sum((-2, -1)) / area.clamp(min=1)
        score = probabilities.amax(-1) * sureness
        sure = (score > self.score_thr) & (area > 0) & ~_doubled(inside, area, score, self.max_iou)
        image, query = sure.nonzero(as_tuple=True)
        kept = masks[image, query]
        return TeacherInstances(
            image=image,
            probabilities=probabilities[image, query],
            scores=score[image, query],
            mask_logits=kept,
            boxes=boxes_from_mask_logits(kept, self.stride),
        )


def _doubled(inside: Tensor, area: Tensor, score: Tensor, most: float) -> Tensor:
    """Say of (B, Q, h, w) masks which of them overlap one of a higher score by more than `most`, (B, Q)."""
    flat = inside.flatten(2).float()
    shared = flat @ flat.mT
    joined = area[:, :, None] + area[:, None] - shared
    rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return ((shared > most * joined) & (rank[:, None] < rank[:, :, None])).any(-1)
