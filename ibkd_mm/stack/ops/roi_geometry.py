"""RoIAlign's settings, its sampling points along one axis, and their bilinear weights."""

from typing import NamedTuple

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype

MAX_POINTS = float(1 << 30)  # more than any RoI has; limits the points of an infinite RoI


class Pooling(NamedTuple):
    """Settings of RoIAlign: number of bins (vertical, horizontal), and mmcv's options."""

    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool


class Side(NamedTuple):
    """One axis of R RoIs: start and bin length in feature pixels, number of points per bin."""

    start: Tensor
    bin_length: Tensor
    points: Tensor


def sides(rois: Tensor, pooling: Pooling) -> tuple[Side, Side]:
    """Return the vertical and the horizontal side of RoIs (R, 5): image index, x1, y1, x2, y2."""
    shift = 0.5 if pooling.aligned else 0.0
    x1, y1, x2, y2 = (rois[:, 1:].to(compute_dtype(rois)) * pooling.spatial_scale - shift).unbind(1)
    return _side(y1, y2 - y1, pooling.bins[0], pooling), _side(x1, x2 - x1, pooling.bins[1], pooling)


def _side(start: Tensor, length: Tensor, bins: int, pooling: Pooling) -> Side:
    bin_length = (length if pooling.aligned else length.clamp(min=1)) / bins
    if pooling.sampling_ratio > 0:
        points = torch.full_like(length, pooling.sampling_ratio)
    else:  # mmcv rounds up in float32 even for float64 input
        points = bin_length.float().ceil().nan_to_num(0).clamp(0, MAX_POINTS)
    return Side(start, bin_length, points.long())


def positions(side: Side, bin_index: Tensor, point_index: Tensor) -> Tensor:
    """Return the coordinates of points; the indices must broadcast against (R, ...)."""
    expand = (...,) + (None,) * (bin_index.dim() - 1)
    start, bin_length, points = (t[expand] for t in side)
    offset = (point_index + 0.5).to(start.dtype) * bin_length / points.clamp(min=1)
    return start + bin_index * bin_length + offset


def neighbours(position: Tensor, size: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return the lower and the upper pixel around each coordinate with weights, and whether it is inside.

    A coordinate up to one pixel outside the feature map counts as on its border; NaN counts as outside.
    """
    inside = (position >= -1) & (position <= size)
    position = position.where(inside, 0).clamp(0, size - 1)
    low = position.floor()
    weight, pixel = position - low, low.long()
    return [(pixel, 1 - weight), ((pixel + 1).clamp(max=size - 1), weight)], inside
