"""What passes between the parts of the head.

B images, A anchors of all levels from fine to coarse, T instances in the batch, N positives.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ibkd_mm.yolov10.groups import ByImage


class HeadOutputs(NamedTuple):
    """What one branch of the head puts out. A named tuple, since tracing knows how to handle one."""

    class_logits: Tensor
    """(B, classes, A)."""
    distance_logits: Tensor
    """(B, 4 * bins, A): distributions over the distances to the left, top, right and bottom."""
    coefficients: Tensor | None = None
    """(B, P, A): how much of each prototype the mask of an anchor has. None where only boxes are found."""
    prototypes: Tensor | None = None
    """(B, P, h, w), at half the stride of the finest level."""

    def float(self) -> "HeadOutputs":
        """Widen to float32, as a tensor's method of the name does."""
        return HeadOutputs(*(part if part is None else part.float() for part in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class GroundTruth:
    """The instances of a batch, one image after another. Images have as many as they have: no padding."""

    image: Tensor
    """(T,)."""
    boxes: Tensor
    """(T, 4) as x1, y1, x2, y2 in pixels of the network's input."""
    labels: Tensor
    """(T,)."""
    masks: Tensor | None
    """(T, h, w), bytes: how many pixels of a prototype's cell are the instance's. None for boxes alone."""
    mask_stride: int
    """Pixels along the side of such a cell."""
    ignore_regions: "IgnoreRegions | None" = None


class IgnoreRegions(NamedTuple):
    """What may be an instance or not: anchors inside are not told that there is none."""

    image: Tensor
    """(D,)."""
    boxes: Tensor
    """(D, 4) as those of instances."""


class Pairs(NamedTuple):
    """Each instance with each anchor that lies in its box. Both (pairs,)."""

    instance: Tensor
    anchor: Tensor


class Assignment(NamedTuple):
    """Which anchors are to find which instances. All (N,)."""

    image: Tensor
    anchor: Tensor
    instance: Tensor
    """Index into the instances of the batch."""
    score: Tensor
    """What class score the anchor is to give, by how well it fits among those of its instance."""


@dataclass(frozen=True)
class BranchStep:
    """All that a training step worked out for one branch, so that nobody need do it again."""

    outputs: HeadOutputs
    boxes: Tensor
    """(B, A, 4): decoded, in pixels of the network's input, with gradient."""
    truth: GroundTruth
    assignment: Assignment
    losses: dict[str, Tensor]

    def mask_logits(self, chosen: Tensor) -> Tensor:
        """Assemble the masks of some positives, whole and with gradient.

        On demand alone: those of all positives need not fit in memory.

        Args:
            chosen: (n,), indices or booleans into the assignment.

        Returns:
            (n, h, w).
        """
        assert self.outputs.coefficients is not None
        assert self.outputs.prototypes is not None
        image, anchor = self.assignment.image[chosen], self.assignment.anchor[chosen]
        prototypes = self.outputs.prototypes.float()
        layout = ByImage(image, len(prototypes))
        coefficients = layout.pad(self.outputs.coefficients[image, :, anchor].float())
        return layout.unpad(coefficients @ prototypes.flatten(2)).unflatten(1, prototypes.shape[-2:])
