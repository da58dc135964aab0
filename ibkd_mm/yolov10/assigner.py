"""Task-aligned assignment of anchors to instances, for a whole batch at once."""

import torch
from torch import Tensor, nn

from ibkd_mm.registry import TASK_UTILS
from ibkd_mm.yolov10.box_loss import complete_iou
from ibkd_mm.yolov10.groups import rank_within
from ibkd_mm.yolov10.structures import Assignment, GroundTruth, IgnoreRegions, Pairs


def pairs_inside(points: Tensor, truth: GroundTruth | IgnoreRegions) -> Pairs:
    """Pair each instance with the anchors strictly inside its box; the same for every branch.

    Args:
        points: (A, 2), x and y of the anchors.
        truth: the instances.
    """
    x, y = points.T
    left, top, right, bottom = truth.boxes.unsqueeze(-1).unbind(dim=1)
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    return Pairs(*inside.nonzero(as_tuple=True))


def ignored_anchors(
    points: Tensor, ignore_regions: IgnoreRegions | None, assigned: Assignment, pictures: int
) -> Tensor | None:
    """Find the anchors inside what is in doubt that nobody was given, (B, A); None where nothing is.

    Args:
        points: (A, 2), x and y of the anchors.
        doubts: in the batch.
        assigned: who was given whom.
        pictures: B.
    """
    if ignore_regions is None:
        return None
    doubt, anchor = pairs_inside(points, ignore_regions)
    found = torch.zeros(pictures, len(points), dtype=torch.bool, device=points.device)
    found[ignore_regions.image[doubt], anchor] = True
    found[assigned.image, assigned.anchor] = False
    return found


@TASK_UTILS.register_module()
class TaskAlignedAssigner(nn.Module):
    """Gives each instance the anchors that do best at both tasks, to class it and to box it.

    How well is score^alpha * IoU^beta (https://arxiv.org/abs/2108.07755), by the complete IoU, not below
    zero; an anchor that does not fit at all is given to nobody. An anchor that several instances want goes
    to the one that it overlaps most. mmdet's assigner of the name takes one image at a time.

    Args:
        topk: most anchors for one instance.
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
        """Assign.

        Args:
            class_logits: (B, classes, A).
            boxes: (B, A, 4), predicted.
            truth: the instances.
            pairs: which anchors an instance may have.
        """
        instance, anchor = pairs
        image = truth.image[instance]
        score = class_logits[image, truth.labels[instance], anchor].sigmoid()
        overlap = complete_iou(boxes[image, anchor], truth.boxes[instance]).clamp(min=0)
        fit = score**self.alpha * overlap**self.beta

        wanted = ((rank_within(instance, fit) < self.topk) & (fit > 0)).nonzero().squeeze(1)
        place = image[wanted] * boxes.shape[1] + anchor[wanted]
        chosen = wanted[rank_within(place, overlap[wanted]) == 0]
        instance, fit, overlap = instance[chosen], fit[chosen], overlap[chosen]
        best_fit, best_overlap = (_best_of(each, instance, len(truth.boxes)) for each in (fit, overlap))
        return Assignment(image[chosen], anchor[chosen], instance, fit / best_fit * best_overlap)


def _best_of(values: Tensor, instance: Tensor, instances: int) -> Tensor:
    """Highest value that any positive of the same instance has, (N,) -> (N,)."""
    return values.new_zeros(instances).scatter_reduce(0, instance, values, "amax")[instance]
