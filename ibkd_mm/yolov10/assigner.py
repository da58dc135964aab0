"""Task-aligned assignment of anchors to instances, for a whole batch at once."""

import torch
from torch import Tensor, nn

from ibkd_mm.registry import TASK_UTILS
from ibkd_mm.yolov10.box_loss import complete_iou
from ibkd_mm.yolov10.groups import rank_within
from ibkd_mm.yolov10.structures import Assignment, GroundTruth, IgnoreRegions, Pairs


def pairs_inside(points: Tensor, truth: GroundTruth | IgnoreRegions) -> Pairs:
    """Pair each instance with the anchors strictly inside its box; `points` are their x and y, (A, 2)."""
    x, y = points.T
    left, top, right, bottom = truth.boxes.unsqueeze(-1).unbind(dim=1)
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    return Pairs(*inside.nonzero(as_tuple=True))


def ignored_anchors(
    points: Tensor, ignore_regions: IgnoreRegions | None, assigned: Assignment, batch: int
) -> Tensor | None:
    """Mark the anchors in ignore regions that are assigned to no instance, (B, A); None without regions."""
    if ignore_regions is None:
        return None
    region, anchor = pairs_inside(points, ignore_regions)
    ignored = torch.zeros(batch, len(points), dtype=torch.bool, device=points.device)
    ignored[ignore_regions.image[region], anchor] = True
    ignored[assigned.image, assigned.anchor] = False
    return ignored


@TASK_UTILS.register_module()
class TaskAlignedAssigner(nn.Module):
    """Assigns each instance the anchors that predict both its class and its box best.

    The alignment is score^alpha * IoU^beta (https://arxiv.org/abs/2108.07755) with the complete IoU, clamped
    at zero; anchors with an alignment of zero are not assigned. An anchor among the best of several instances
    goes to the one that it overlaps most. mmdet's assigner of the same name handles one image at a time.

    Args:
        topk: maximum number of anchors per instance.
        alpha: exponent of the score.
        beta: exponent of the IoU.
    """

    def __init__(self, *, topk: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.topk = topk
        self.alpha = alpha
        self.beta = beta

    @torch.no_grad()
    def forward(self, class_logits: Tensor, boxes: Tensor, truth: GroundTruth, pairs: Pairs) -> Assignment:
        """Assign candidate `pairs`, given (B, classes, A) logits and (B, A, 4) predicted boxes."""
        instance, anchor = pairs
        image = truth.image[instance]
        score = class_logits[image, truth.labels[instance], anchor].sigmoid()
        overlap = complete_iou(boxes[image, anchor], truth.boxes[instance]).clamp(min=0)
        alignment = score**self.alpha * overlap**self.beta

        best = ((rank_within(instance, alignment) < self.topk) & (alignment > 0)).nonzero().squeeze(1)
        place = image[best] * boxes.shape[1] + anchor[best]
        chosen = best[rank_within(place, overlap[best]) == 0]
        instance, alignment, overlap = instance[chosen], alignment[chosen], overlap[chosen]
        highest_alignment, highest_overlap = (
            values.new_zeros(len(truth.boxes)).scatter_reduce(0, instance, values, "amax")[instance]
            for values in (alignment, overlap)
        )
        target = alignment / highest_alignment * highest_overlap
        return Assignment(image[chosen], anchor[chosen], instance, target)
