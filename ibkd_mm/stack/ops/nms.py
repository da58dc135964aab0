"""Greedy non-maximum suppression in blocks of boxes."""

import torch
from torch import Tensor

from ibkd_mm.stack.ops import torchvision_kernels
from ibkd_mm.stack.ops.execution import compute_dtype, one_thread

# A block's pairwise IoU fits into a CPU's cache; a GPU needs few launches within its memory.
_BLOCK_CPU, _BLOCK_GPU = 128, 1024
_PAIRS_GPU = 1 << 24


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices (K,) of the boxes (N, 4) that greedy suppression keeps, by descending score.

    Equal scores are ordered by `sort`, as in mmcv. `offset` is 0, or 1 if boxes are x2 - x1 + 1 wide.
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

    The kept boxes of a block suppress the boxes after the block.
    """
    count, device, corners = len(boxes), boxes.device, boxes.t()
    areas = (corners[2] - corners[0] + offset) * (corners[3] - corners[1] + offset)
    block = _BLOCK_CPU if device.type == "cpu" else min(_BLOCK_GPU, max(_BLOCK_CPU, _PAIRS_GPU // count))
    table, positions, kept = torch.cat([corners, areas[None]]), torch.arange(count, device=device), []
    with one_thread(boxes):
        while positions.numel():
            head, rest = table[:, :block], table[:, block:]
            chosen = _greedy(_overlap(head, head, iou_threshold, offset))
            kept.append(positions[:block][chosen])
            remaining = ~_overlap(head[:, chosen], rest, iou_threshold, offset).any(0)
            table, positions = rest[:, remaining], positions[block:][remaining]
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
    """Return which boxes are kept, from their (B, B) overlaps: fixed point of "no earlier kept overlaps"."""
    suppresses = overlap.triu(diagonal=1)
    keep = torch.ones_like(suppresses[0])
    while True:  # a round decides at least one more box, in practice a few rounds decide all
        updated = ~(suppresses & keep[:, None]).any(0)
        if torch.equal(updated, keep):
            return keep
        keep = updated
