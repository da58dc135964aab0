"""Soft non-maximum suppression: reduce the score of overlapping boxes instead of removing them."""

import numpy as np
import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2
_SCORE, _AREA = 4, 5


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Write the surviving boxes with their decayed scores into `dets` and return their indices.

    Each round moves the best box to the front of the table, removes it and decays the others. As in mmcv, the
    last box replaces a box that falls below `min_score`: this determines the order of equal scores.

    `dets` (N, 5) gets box and score. From `iou_threshold` on, `NAIVE` removes and `LINEAR` decays; `GAUSSIAN`
    always decays. `offset` is 0, or 1 if boxes are x2 - x1 + 1 wide.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    dtype = compute_dtype(boxes)
    x1, y1, x2, y2 = boxes.detach().cpu().to(dtype).unbind(1)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    table = torch.stack([x1, y1, x2, y2, scores.detach().cpu().to(dtype), area]).numpy()  # (6, N)
    indices: np.ndarray = np.arange(len(boxes))
    rows, kept = [], []
    while len(indices):
        best = int(table[_SCORE].argmax())
        table[:, [0, best]] = table[:, [best, 0]]
        indices[[0, best]] = indices[[best, 0]]
        rows.append(table[:5, 0].copy())
        kept.append(indices[0])
        box, table, indices = table[:, 0], table[:, 1:], indices[1:]
        table[_SCORE] *= _decay(_iou(box, table, offset), iou_threshold, sigma, method)
        dropped = table[_SCORE] < min_score
        if dropped.any():
            places = _close_gaps(dropped)
            table, indices = table[:, places], indices[places]
    dets[: len(kept)] = torch.from_numpy(np.stack(rows)).to(dets)
    return torch.from_numpy(np.stack(kept)).to(boxes.device)


def _iou(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """Return the IoU of one box (6,) with others (6, M)."""
    width = np.minimum(box[2], others[2]) - np.maximum(box[0], others[0]) + offset
    height = np.minimum(box[3], others[3]) - np.maximum(box[1], others[1]) + offset
    intersection = width.clip(0) * height.clip(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN for two empty boxes, as in mmcv
        return intersection / (box[_AREA] + others[_AREA] - intersection)


def _decay(iou: np.ndarray, iou_threshold: float, sigma: float, method: int) -> np.ndarray:
    """Return the factors (M,) of the scores."""
    if method == GAUSSIAN:
        return np.exp(-(iou * iou) / sigma)
    return np.where(iou >= iou_threshold, 1 - iou if method == LINEAR else 0.0, 1.0)


def _close_gaps(dropped: np.ndarray) -> np.ndarray:
    """Return the order of the kept boxes after the last kept ones have filled the gaps."""
    kept = np.flatnonzero(~dropped)
    places = np.arange(len(kept))
    gaps = dropped[: len(kept)]
    places[gaps] = kept[::-1][: gaps.sum()]
    return places
