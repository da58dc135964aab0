"""The instances that a teacher predicted in a batch, from a cache or from the outputs of its queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import BranchStep


@dataclass(frozen=True)
class TeacherInstances:
    """The K instances of all B images of a batch, sorted by `image`, from a model or a cache."""

    image: Tensor
    probabilities: Tensor
    """(K, classes): probability of each class; what is missing to 1 is that of no object."""
    scores: Tensor
    mask_logits: Tensor
    """(K, h, w), on the grid of the student's prototypes or on one over the same area."""
    boxes: Tensor
    """(K, 4) as x1, y1, x2, y2 in pixels of the student's input."""

    def __len__(self) -> int:
        return len(self.image)

    def check_classes(self, own: int) -> None:
        """Refuse instances with another number of classes than the student's."""
        others = self.probabilities.shape[1]
        if len(self) and own != others:
            raise UserError(
                f"The student has {own} classes and its teacher {others}: both must have the same, in the "
                "same order. Set model.architecture.bbox_head.num_classes, or distil feature maps alone."
            )

    def on_grid(self, size: Sequence[int]) -> Tensor:
        """Return the mask logits on a grid of this size, (K, h, w)."""
        if self.mask_logits.shape[1:] == tuple(size):
            return self.mask_logits
        return F.interpolate(self.mask_logits[:, None], tuple(size), mode="bilinear")[:, 0]


def from_cached(
    batch: Sequence[InstanceData], step: BranchStep, max_probability: float = 0.999
) -> TeacherInstances:
    """Join the cached `teacher_instances` of B images, padded like the truth of a branch's step.

    A cell's share of the mask is its probability, but at most `max_probability`: cached masks are hard, and
    soft ones are 1 above their highest threshold.
    """
    if step.truth.masks is None:
        raise UserError("Cached instances are masks, and the student has boxes alone. Set bbox_head.mask.")
    counts = torch.tensor([len(instances) for instances in batch])
    height, width = step.truth.masks.shape[1:]
    masks = [instances.mask_cells for instances in batch]
    cells = torch.cat([F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in masks])
    share = cells.float() / step.truth.mask_stride**2
    share = (share * max_probability).clamp(min=1 - max_probability)
    known = [instances.probabilities for instances in batch if len(instances)]
    logits = step.outputs.class_logits
    return TeacherInstances(
        image=torch.arange(len(batch)).repeat_interleave(counts).to(cells.device),
        probabilities=torch.cat(known) if known else logits.new_zeros(0, logits.shape[1]),
        scores=torch.cat([instances.scores for instances in batch]),
        mask_logits=share.logit(),
        boxes=torch.cat([instances.bboxes for instances in batch]),
    )


def boxes_from_mask_logits(logits: Tensor, stride: int) -> Tensor:
    """Return the bounding boxes of masks, (K, h, w) logits of cells of `stride` pixels -> (K, 4) in pixels.

    An edge lies where the logit crosses zero between the centres of two cells, as in the mask enlarged to
    pixels. No mask may be empty.
    """
    (_, height, width), columns = logits.shape, logits.transpose(1, 2)
    left, top = _crossing(columns), _crossing(logits)
    right, bottom = width - _crossing(columns.flip(1)), height - _crossing(logits.flip(1))
    return torch.stack([left, top, right, bottom], dim=1) * stride


def _crossing(logits: Tensor) -> Tensor:
    """Find where (K, n, m) logits first exceed zero along the middle dimension, in cells."""
    first = (logits > 0).any(2).to(torch.uint8).argmax(1)
    index = torch.arange(len(logits), device=logits.device)
    inside, before = logits[index, first], logits[index, (first - 1).clamp(min=0)]
    # the line that crosses first decides, not the highest logits of different lines
    between = (inside / (inside - before).clamp(min=1e-6)).where(inside > 0, 0.0).amax(1)
    # the centre of a cell is half a cell from its start; the crossing is up to one cell before the centre
    return torch.where(first > 0, first + 0.5 - between, 0.0).clamp(min=0)


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
        """Select by the last layer's logits: (B, Q, classes + 1), no object last, and (B, Q, h, w)."""
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
            image,
            probabilities[image, query],
            score[image, query],
            kept,
            boxes_from_mask_logits(kept, self.stride),
        )


def _duplicates(inside: Tensor, area: Tensor, score: Tensor, max_iou: float) -> Tensor:
    """Mark (B, Q, h, w) masks that overlap one with a higher score by more than `max_iou`: (B, Q)."""
    flat = inside.flatten(2).float()
    shared = flat @ flat.mT
    union = area[:, :, None] + area[:, None] - shared
    rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return ((shared > max_iou * union) & (rank[:, None] < rank[:, :, None])).any(-1)
