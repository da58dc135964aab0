"""Data structures of the head.

B images, A anchors of all levels from fine to coarse, T instances in the batch, N positives.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ibkd_mm.yolov10.groups import ByImage


class HeadOutputs(NamedTuple):
    """Outputs of one branch of the head. A named tuple, because tracing supports it."""

    class_logits: Tensor  # (B, classes, A)
    distance_logits: Tensor  # (B, 4 * bins, A): of the distances to the left, top, right and bottom
    coefficients: Tensor | None = None  # (B, P, A): weights of the prototypes. None for boxes only
    prototypes: Tensor | None = None  # (B, P, h, w), at half the stride of the finest level

    def float(self) -> "HeadOutputs":
        """Convert to float32."""
        return HeadOutputs(*(part if part is None else part.float() for part in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class GroundTruth:
    """The instances of all images of a batch, concatenated without padding."""

    image: Tensor  # (T,), image index
    boxes: Tensor  # (T, 4) as x1, y1, x2, y2 in pixels of the network's input
    labels: Tensor  # (T,)
    masks: Tensor | None  # (T, h, w) uint8: pixels of the instance in each cell. None for boxes only
    mask_stride: int  # side of a cell in pixels
    ignore_regions: "IgnoreRegions | None" = None


class IgnoreRegions(NamedTuple):
    """Regions that may or may not be instances: anchors inside are not trained as background."""

    image: Tensor  # (R,), image index
    boxes: Tensor  # (R, 4), as the boxes of instances


class Pairs(NamedTuple):
    """Pairs of an instance and an anchor inside its box. Both (pairs,)."""

    instance: Tensor
    anchor: Tensor


class Assignment(NamedTuple):
    """The anchors that are assigned to instances. All (N,)."""

    image: Tensor
    anchor: Tensor
    instance: Tensor  # index into the instances of the batch
    score: Tensor  # target class score: how well the anchor fits compared with others of its instance


@dataclass(frozen=True)
class BranchStep:
    """All that a training step computed for one branch, for reuse in distillation losses."""

    outputs: HeadOutputs
    boxes: Tensor  # (B, A, 4): decoded boxes in pixels of the network's input, with gradient
    truth: GroundTruth
    assignment: Assignment
    losses: dict[str, Tensor]

    def mask_logits(self, chosen: Tensor) -> Tensor:
        """Assemble the masks of some positives, with gradient, (n, h, w); all might not fit in memory.

        `chosen` are indices or a boolean mask of the assignment.
        """
        assert self.outputs.coefficients is not None
        assert self.outputs.prototypes is not None
        image, anchor = self.assignment.image[chosen], self.assignment.anchor[chosen]
        prototypes = self.outputs.prototypes.float()
        layout = ByImage(image, len(prototypes))
        coefficients = layout.pad(self.outputs.coefficients[image, :, anchor].float())
        return layout.unpad(coefficients @ prototypes.flatten(2)).unflatten(1, prototypes.shape[-2:])
