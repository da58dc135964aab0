"""Greedy non-maximum suppression, in blocks instead of box by box."""

import torch
from torch import Tensor

from ibkd_mm.stack.ops.precision import compute_dtype

# A block's tables of pairs stay in a CPU's cache; a GPU wants few launches instead.
_BLOCK_CPU = 128
_PAIRS_ON_DEVICE = 1 << 24


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that greedy suppression keeps, by descending score.

    Boxes are taken in blocks of descending score. Within a block the greedy choice is the fixed point of
    "kept unless a kept, higher box overlaps it"; what a block keeps then suppresses everything after it.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,). Of equal scores the earlier box goes first.
        iou_threshold: a box goes when its IoU with a kept one is greater than this.
        offset: 0, or 1 for boxes whose width is x2 - x1 + 1.

    Returns:
        (K,) int64 indices into `boxes`.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    order = scores.sort(dim=0, descending=True, stable=True).indices
    corners = boxes.detach().to(compute_dtype(boxes))[order].t()
    areas = (corners[2] - corners[0] + offset) * (corners[3] - corners[1] + offset)
    rest = torch.cat([corners, areas[None]])
    block = _BLOCK_CPU if boxes.device.type == "cpu" else max(_BLOCK_CPU, _PAIRS_ON_DEVICE // len(order))
    positions = torch.arange(len(order), device=boxes.device)
    kept = []
    while positions.numel():
        head, rest = rest[:, :block], rest[:, block:]
        chosen = _greedy(_overlap(head, head, iou_threshold, offset))
        kept.append(positions[:block][chosen])
        left = ~_overlap(head[:, chosen], rest, iou_threshold, offset).any(0)
        rest, positions = rest[:, left], positions[block:][left]
    return order[torch.cat(kept)]


def _overlap(rows: Tensor, columns: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Tell which pairs exceed the threshold; (5, K) and (5, M), corners and area, give (K, M)."""
    x1, y1, x2, y2, area = rows[:, :, None]
    width = torch.minimum(x2, columns[2]).sub_(torch.maximum(x1, columns[0])).add_(offset).clamp_(min=0)
    height = torch.minimum(y2, columns[3]).sub_(torch.maximum(y1, columns[1])).add_(offset).clamp_(min=0)
    intersection = width.mul_(height)
    union = (area + columns[4]).sub_(intersection)
    return intersection.div_(union) > iou_threshold


def _greedy(overlap: Tensor) -> Tensor:
    """Return which of a block's boxes greedy suppression keeps, from its (B, B) table of overlaps."""
    suppresses = overlap.triu(diagonal=1)
    keep = torch.ones_like(suppresses[0])
    while True:  # each round settles at least one more box, in practice a handful of rounds settle all
        settled = ~(suppresses & keep[:, None]).any(0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
