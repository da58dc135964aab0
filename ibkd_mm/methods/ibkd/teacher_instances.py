"""The instances that a teacher predicted in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.structures import BranchStep


@dataclass(frozen=True)
class TeacherInstances:
    """The K instances of all B images of a batch, image by image; predicted online or read from a cache."""

    image: Tensor
    """(K,): index of the image."""
    probabilities: Tensor
    """(K, classes): probability of each class; what is missing to 1 is that of no object."""
    scores: Tensor
    """(K,): confidence, 0 to 1."""
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
    """Join the instances of a teacher's cache of B images; a cell's share of the mask is its probability.

    Args:
        batch: the `teacher_instances` of each image, with (K, h, w) `mask_cells`.
        step: step of a branch, whose masks show how far the images of the batch are padded.
        max_probability: probability of a cell that the mask covers wholly: cached masks are hard, and soft
            ones are 1 above their highest threshold.
    """
    if step.truth.masks is None:
        raise UserError("Cached instances are masks, and the student has boxes alone. Set bbox_head.mask.")
    counts = torch.tensor([len(instances) for instances in batch])
    size = step.truth.masks.shape[1:]
    cells = torch.cat([_padded(instances.mask_cells, size) for instances in batch])
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


def _padded(cells: Tensor, size: Sequence[int]) -> Tensor:
    return F.pad(cells, (0, size[1] - cells.shape[2], 0, size[0] - cells.shape[1]))


def boxes_from_mask_logits(logits: Tensor, stride: int) -> Tensor:
    """Return the bounding boxes of masks, (K, h, w) logits of cells of `stride` pixels -> (K, 4) in pixels.

    An edge lies where the logit crosses zero between the centres of two cells, as in the mask enlarged to
    pixels. No mask may be empty.
    """
    (top, bottom), (left, right) = _ends(logits), _ends(logits.transpose(1, 2))
    return torch.stack([left, top, right, bottom], dim=1) * stride


def _ends(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Find where (K, n, m) logits first and last exceed zero along the middle dimension, in cells."""
    return _crossing(logits), logits.shape[1] - _crossing(logits.flip(1))


def _crossing(logits: Tensor) -> Tensor:
    first = (logits > 0).any(2).to(torch.uint8).argmax(1)
    index = torch.arange(len(logits), device=logits.device)
    inside, before = logits[index, first], logits[index, (first - 1).clamp(min=0)]
    # the line that crosses first decides, not the highest logits of different lines
    between = (inside / (inside - before).clamp(min=1e-6)).where(inside > 0, 0.0).amax(1)
    # the centre of a cell is half a cell from its start; the crossing is up to one cell before the centre
    return torch.where(first > 0, first + 0.5 - between, 0.0).clamp(min=0)
