"""Loss of the masks, inside the boxes, in bounded memory."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.groups import ByImage

_EPS = 1e-7


@MODELS.register_module()
class CroppedMaskLoss(nn.Module):
    """Binary cross-entropy inside the instance's box, as a mean over the box's area.

    A cell at the box's edge counts by its share inside, so that the area is exact and even a box smaller
    than a cell has one.

    Args:
        loss_weight: gain.
        max_cells: most cells of assembled masks in memory at once. Where a batch has more, they are assembled
            part by part, and again for the backward pass: memory stays bounded however many instances.
        divergence: whether to leave out the entropy of the targets, so that it is zero where they are met.
    """

    def __init__(self, *, loss_weight: float, max_cells: int, divergence: bool = False) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.max_cells = max_cells
        self.divergence = divergence

    def forward(
        self,
        coefficients: Tensor,
        prototypes: Tensor,
        image: Tensor,
        boxes: Tensor,
        masks: Tensor,
        rows: Tensor,
        *,
        stride: int,
        normaliser: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Sum over N positives, divided by the normaliser.

        Args:
            coefficients: (N, P).
            prototypes: (B, P, h, w).
            image: (N,), the image of each positive.
            boxes: (N, 4), boxes to stay inside, in pixels.
            masks: (instances, h, w), how many pixels of each cell are an instance's; as floats, what share.
            rows: (N,), which of these instances each positive is to find.
            stride: pixels along a cell's side.
            normaliser: number of positives.
            weight: (N,), what each positive counts.
        """
        batch, _, height, width = prototypes.shape
        down, across = _cover(boxes[:, 1::2] / stride, height), _cover(boxes[:, ::2] / stride, width)
        if weight is not None:
            down = down * weight[:, None]
        full = 1 if masks.is_floating_point() else stride**2
        layout = ByImage(image, batch)
        padded = [layout.pad(part) for part in (coefficients, rows, down, across)]
        slots = max(self.max_cells // (batch * height * width), 1)
        chunks = list(zip(*(part.split(slots, dim=1) for part in padded), strict=True))
        shared = prototypes.flatten(2), masks.flatten(1), full, self.divergence
        if len(chunks) == 1:
            total = _compare(*shared, *chunks[0])
        else:
            total = torch.stack(
                [checkpoint(_compare, *shared, *chunk, use_reentrant=False) for chunk in chunks]
            ).sum()
        return self.loss_weight * total / normaliser


def _cover(edges: Tensor, cells: int) -> Tensor:
    """How much of each cell along one side lies in the box, as shares of the box: (N, 2) -> (N, cells)."""
    start = torch.arange(cells, device=edges.device)
    inside = torch.min(edges[:, 1:], start + 1) - torch.max(edges[:, :1], start)
    inside = inside.clamp(min=0)
    return inside / inside.sum(dim=1, keepdim=True).clamp(min=_EPS)


def _compare(
    prototypes: Tensor,
    masks: Tensor,
    full: int,
    divergence: bool,
    coefficients: Tensor,
    rows: Tensor,
    down: Tensor,
    across: Tensor,
) -> Tensor:
    """Sum of the weighted cross-entropies of (B, S) masks of `cells` cells.

    Assembling whole masks is one product of matrices; all else is done for the cells inside the boxes alone,
    which are few.

    Args:
        prototypes: (B, P, cells).
        masks: (instances, cells).
        full: pixels of a cell.
        divergence: whether less the targets' entropy.
        coefficients: (B, S, P).
        rows: (B, S), instances.
        down: (B, S, h), weights of rows of cells.
        across: (B, S, w), weights of columns.
    """
    weights = (down[..., :, None] * across[..., None, :]).flatten()
    inside = weights.nonzero().squeeze(1)
    logits = (coefficients @ prototypes).flatten().index_select(0, inside)
    cells = masks.shape[1]
    row = rows.flatten()[inside.div(cells, rounding_mode="floor")]
    targets = masks[row, inside % cells].to(logits.dtype) / full
    weights = weights.index_select(0, inside)
    total = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")
    return total - (binary_entropy(targets) * weights).sum() if divergence else total


def binary_entropy(share: Tensor) -> Tensor:
    """Entropy of yes and no, elementwise, 0 at certainty."""
    return -(share.xlogy(share) + (1 - share).xlogy(1 - share))
