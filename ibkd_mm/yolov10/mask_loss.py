"""Mask loss inside the boxes, in bounded memory."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.groups import ByImage

_EPS = 1e-7


@MODELS.register_module()
class CroppedMaskLoss(nn.Module):
    """Binary cross-entropy inside the instance's box, averaged over the box's area.

    A cell at the edge of the box is weighted by the fraction of it that is inside, so that the area is exact,
    even for a box smaller than a cell.

    Args:
        max_cells: maximum number of mask cells in memory at once. A larger batch is computed in chunks, which
            are computed again in the backward pass, so that memory is bounded for any number of instances.
        divergence: whether to subtract the entropy of the targets, so that a perfect prediction costs zero.
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
            image: (N,), image index of each positive.
            boxes: (N, 4), in pixels.
            masks: (instances, h, w), pixels of the instance in each cell; floats are fractions.
            rows: (N,), row in `masks` of each positive.
            stride: side of a cell in pixels.
            normaliser: number of positives.
            weight: (N,).
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
    """Return the part of the box's side that each cell covers: (N, 2) -> (N, cells)."""
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
    """Sum the cross-entropies of (B, S) masks, weighted by `down` (B, S, h) and `across` (B, S, w).

    Whole masks are assembled with one matrix product; the rest is computed for the cells inside boxes only.
    Prototypes are (B, P, cells), masks (instances, cells), coefficients (B, S, P) and rows (B, S).
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


def binary_entropy(probability: Tensor) -> Tensor:
    """Compute the entropy of a binary variable, elementwise."""
    return -(probability.xlogy(probability) + (1 - probability).xlogy(1 - probability))
