"""Greedy non-maximum suppression in blocks of boxes."""

import torch
from torch import Tensor

from ibkd_mm.stack.ops import torchvision_kernels
from ibkd_mm.stack.ops.execution import compute_dtype, one_thread

# A block's pairwise IoU fits into a CPU's cache; a GPU needs few launches within its memory.
_BLOCK_CPU, _BLOCK_GPU = 128, 1024
_PAIRS_GPU = 1 << 24


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that greedy suppression keeps, by descending score.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,). Equal scores are ordered by `sort`, as in mmcv.
        iou_threshold: a box is removed if its IoU with a kept box is greater than this.
        offset: 0, or 1 for boxes whose width is x2 - x1 + 1.

    Returns:
        (K,) int64 indices into `boxes`.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    order = scores.sort(dim=0, descending=True).indices
    sorted_boxes = boxes.detach().to(compute_dtype(boxes))[order]
    if offset == 0 and torchvision_kernels.is_preferred("nms", boxes):
        return order[torchvision_kernels.nms_sorted(sorted_boxes, iou_threshold)]
    return order[nms_sorted(sorted_boxes, iou_threshold, offset)]


def nms_sorted(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the kept boxes of (N, 4), sorted by descending score, N at least 1.

    Within a block, the greedy result is the fixed point of "kept unless an earlier kept box overlaps it". The
    kept boxes of a block then suppress the boxes after the block.
    """
    corners = boxes.t()
    areas = (corners[2] - corners[0] + offset) * (corners[3] - corners[1] + offset)
    with one_thread(boxes):
        return _kept_positions(torch.cat([corners, areas[None]]), iou_threshold, offset)


def _kept_positions(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the kept columns of (5, N), corners and area sorted by descending score."""
    count, device = boxes.shape[1], boxes.device
    block = _BLOCK_CPU if device.type == "cpu" else min(_BLOCK_GPU, max(_BLOCK_CPU, _PAIRS_GPU // count))
    positions = torch.arange(count, device=device)
    kept = []
    while positions.numel():
        head, rest = boxes[:, :block], boxes[:, block:]
        chosen = _greedy(_overlap(head, head, iou_threshold, offset))
        kept.append(positions[:block][chosen])
        remaining = ~_overlap(head[:, chosen], rest, iou_threshold, offset).any(0)
        boxes, positions = rest[:, remaining], positions[block:][remaining]
    return torch.cat(kept)


def _overlap(rows: Tensor, columns: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return (K, M), whether the IoU exceeds the threshold, for (5, K) and (5, M), corners and area."""
    x1, y1, x2, y2, area = rows[:, :, None]
    width = torch.minimum(x2, columns[2]).sub_(torch.maximum(x1, columns[0])).add_(offset).clamp_(min=0)
    height = torch.minimum(y2, columns[3]).sub_(torch.maximum(y1, columns[1])).add_(offset).clamp_(min=0)
    intersection = width.mul_(height)
    union = (area + columns[4]).sub_(intersection)
    return intersection.div_(union) > iou_threshold


def _greedy(overlap: Tensor) -> Tensor:
    """Return which boxes of a block greedy suppression keeps, from their (B, B) overlaps."""
    suppresses = overlap.triu(diagonal=1)
    keep = torch.ones_like(suppresses[0])
    while True:  # a round decides at least one more box, in practice a few rounds decide all
        updated = ~(suppresses & keep[:, None]).any(0)
        if torch.equal(updated, keep):
            return keep
        keep = updated
