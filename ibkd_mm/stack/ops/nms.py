"""Greedy non-maximum suppression, in blocks instead of box by box."""

import torch
from torch import Tensor

from ibkd_mm.stack.ops import torchvision_kernels
from ibkd_mm.stack.ops.execution import compute_dtype, one_thread

# A block's tables of pairs stay in a CPU's cache; a GPU wants few launches, as far as its memory goes.
_BLOCK_CPU, _BLOCK_GPU = 128, 1024
_PAIRS_GPU = 1 << 24


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that greedy suppression keeps, by descending score.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,). Of equal scores the one goes first that `sort` puts first, as in mmcv.
        iou_threshold: a box goes when its IoU with a kept one is greater than this.
        offset: 0, or 1 for boxes whose width is x2 - x1 + 1.

    Returns:
        (K,) int64 indices into `boxes`.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    order = scores.sort(dim=0, descending=True).indices
    in_order = boxes.detach().to(compute_dtype(boxes))[order]
    if offset == 0 and torchvision_kernels.serves("nms", boxes):
        return order[torchvision_kernels.nms_in_order(in_order, iou_threshold)]
    return order[nms_in_order(in_order, iou_threshold, offset)]


def nms_in_order(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that are kept of (N, 4) by descending score, N at least 1.

    Boxes are taken in blocks. Within a block the greedy choice is the fixed point of "kept unless a kept box
    before it overlaps it"; what a block keeps then suppresses everything after the block.
    """
    corners = boxes.t()
    areas = (corners[2] - corners[0] + offset) * (corners[3] - corners[1] + offset)
    with one_thread(boxes):
        return _kept_positions(torch.cat([corners, areas[None]]), iou_threshold, offset)


def _kept_positions(rest: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return which columns of (5, N), corners and area by descending score, are kept."""
    count, device = rest.shape[1], rest.device
    block = _BLOCK_CPU if device.type == "cpu" else min(_BLOCK_GPU, max(_BLOCK_CPU, _PAIRS_GPU // count))
    positions = torch.arange(count, device=device)
    kept = []
    while positions.numel():
        head, rest = rest[:, :block], rest[:, block:]
        chosen = _greedy(_overlap(head, head, iou_threshold, offset))
        kept.append(positions[:block][chosen])
        left = ~_overlap(head[:, chosen], rest, iou_threshold, offset).any(0)
        rest, positions = rest[:, left], positions[block:][left]
    return torch.cat(kept)


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
