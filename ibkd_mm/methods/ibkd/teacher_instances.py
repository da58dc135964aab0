"""The instances that a teacher saw in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.errors import UserError


@dataclass(frozen=True)
class TeacherInstances:
    """The instances of B images, one after another; K in all. Seen online or read from a cache."""

    image: Tensor
    """(K,)."""
    probabilities: Tensor
    """(K, classes): of each class; what they lack to one is the probability that it is none."""
    scores: Tensor
    """(K,): how far the teacher is to be trusted, 0 to 1."""
    mask_logits: Tensor
    """(K, h, w), on the grid of the student's prototypes or one over the same area."""
    boxes: Tensor
    """(K, 4) as x1, y1, x2, y2 in pixels of the student's input."""

    def __len__(self) -> int:
        return len(self.image)

    def check_classes(self, own: int) -> None:
        """Refuse instances of other classes than the student's."""
        others = self.probabilities.shape[1]
        if len(self) and own != others:
            raise UserError(
                f"The student has {own} classes and its teacher {others}: both must have the same, in the "
                "same order. Set model.architecture.bbox_head.num_classes, or distil features alone."
            )

    def on_grid(self, size: Sequence[int]) -> Tensor:
        """Give the mask logits on a grid of this size, (K, h, w)."""
        if self.mask_logits.shape[1:] == tuple(size):
            return self.mask_logits
        return F.interpolate(self.mask_logits[:, None], tuple(size), mode="bilinear")[:, 0]


def boxes_from_mask_logits(logits: Tensor, stride: int) -> Tensor:
    """Bound masks, (K, h, w) logits of cells of `stride` pixels -> (K, 4) in pixels.

    An edge lies where the logit crosses zero between the centres of two cells, as it would in the mask that
    is enlarged to pixels; none can be empty.
    """
    (top, bottom), (left, right) = _ends(logits), _ends(logits.transpose(1, 2))
    return torch.stack([left, top, right, bottom], dim=1) * stride


def _ends(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Find where along the middle axis of (K, n, m) any is first above zero and where last, in cells."""
    return _crossing(logits), logits.shape[1] - _crossing(logits.flip(1))


def _crossing(logits: Tensor) -> Tensor:
    first = (logits > 0).any(2).to(torch.uint8).argmax(1)
    each = torch.arange(len(logits), device=logits.device)
    inside, before = logits[each, first], logits[each, (first - 1).clamp(min=0)]
    # the line that crosses first decides, not the highest logits of different lines
    between = (inside / (inside - before).clamp(min=1e-6)).where(inside > 0, 0.0).amax(1)
    # a centre is half a cell behind its start; the crossing is up to a whole cell before the centre
    return torch.where(first > 0, first + 0.5 - between, 0.0).clamp(min=0)
