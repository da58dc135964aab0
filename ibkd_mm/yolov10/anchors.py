"""Anchors: the points that predict, one at the centre of each cell of each level."""

from collections.abc import Sequence

import torch
from torch import Tensor


def make_anchors(levels: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Return x, y and stride in pixels of the anchors of (B, C, H/s, W/s) levels, fine to coarse: (A, 3)."""
    anchors = []
    for level, stride in zip(levels, strides, strict=True):
        rows, columns = (torch.arange(side, device=level.device) + 0.5 for side in level.shape[-2:])
        y, x = torch.meshgrid(rows * stride, columns * stride, indexing="ij")
        anchors.append(torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1))
    return torch.cat(anchors)
