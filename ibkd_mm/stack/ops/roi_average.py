"""RoIAlign with average pooling, as two small matrix products per RoI instead of thousands of sampled points.

Bilinear weights, and the average over the points of a bin, factor into a vertical and a horizontal part. So a
pooled RoI is V @ features @ H^T, where V and H, (bins, pixels), are the points' summed weights. Only the
part of the feature map inside the RoI is read.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision, one_thread
from ibkd_mm.stack.ops.roi_geometry import MAX_POINTS, Side, neighbours, positions, sides
from ibkd_mm.stack.ops.roi_windows import Weights, add_to_window, windows

# Limits the memory for the weights of RoIs.
_MAX_WEIGHTS = 1 << 24


class Pooling(NamedTuple):
    """Settings of RoIAlign: number of bins (vertical, horizontal), and mmcv's options."""

    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool


def average_forward(input: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Pool features (B, C, H, W) inside RoIs (R, 5) into (R, C, *bins)."""
    dtype, (_, channels, height, width) = compute_dtype(input), input.shape
    features = input.detach().to(dtype).permute(0, 2, 3, 1).contiguous()
    output = features.new_zeros(len(rois), *pooling.bins, channels)
    with full_precision(input), one_thread(input):
        for rows in _chunks(len(rois), pooling, (height, width)):
            weights = _weights(rois[rows].to(dtype), pooling, (height, width))
            pooled = output[rows]
            for window in windows(weights, channels):
                crop = features[window.position]  # (G, h, w, C)
                columns = window.horizontal[:, None] @ crop  # (G, h, bins, C)
                pooled[window.rois] = (window.vertical @ columns.flatten(2)).unflatten(2, columns.shape[2:])
    return output.permute(0, 3, 1, 2)


def average_backward(grad_output: Tensor, rois: Tensor, shape: torch.Size, pooling: Pooling) -> Tensor:
    """Return the gradient of features of `shape` (B, C, H, W) from `grad_output` (R, C, *bins)."""
    dtype, (batch, channels, height, width) = compute_dtype(grad_output), shape
    gradient = grad_output.detach().to(dtype).permute(0, 2, 3, 1).contiguous()
    output = gradient.new_zeros(batch, height, width, channels)
    with full_precision(grad_output), one_thread(grad_output):
        for rows in _chunks(len(rois), pooling, (height, width)):
            weights = _weights(rois[rows].to(dtype), pooling, (height, width))
            pooled = gradient[rows]
            for window in windows(weights, channels):
                bins = pooled[window.rois]  # (G, bins, bins, C)
                columns = (window.vertical.mT @ bins.flatten(2)).unflatten(2, bins.shape[2:])
                add_to_window(output, window.position, window.horizontal.mT[:, None] @ columns)
    return output.permute(0, 3, 1, 2)


def _chunks(count: int, pooling: Pooling, size: tuple[int, int]) -> list[slice]:
    step = max(1, _MAX_WEIGHTS // (max(pooling.bins) * max(size)))
    return [slice(first, first + step) for first in range(0, count, step)]


def _weights(rois: Tensor, pooling: Pooling, size: tuple[int, int]) -> Weights:
    """Return the weight matrices of RoIs on a feature map of `size` (H, W)."""
    vertical, horizontal = sides(rois, *pooling)
    return Weights(
        rois[:, 0].long(),
        *_axis_weights(vertical, pooling.bins[0], size[0], pooling.sampling_ratio),
        *_axis_weights(horizontal, pooling.bins[1], size[1], pooling.sampling_ratio),
    )


def _axis_weights(side: Side, bins: int, size: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Return the weights (R, bins, size) of an axis and the range of pixels (R, 2) with nonzero weight.

    Points are evenly spaced over the RoI. Only those that can be on the feature map are computed: an RoI that
    extends far outside takes no longer than another.
    """
    # If the RoI size determines the number of points, points of one bin are over half a pixel apart.
    count = bins * sampling_ratio if sampling_ratio > 0 else bins + 2 * (size + 3)
    points = side.points.clamp(min=1)[:, None]
    first = torch.zeros_like(points)
    if sampling_ratio <= 0:
        before = (-1 - side.start) / side.bin_length * side.points
        first = (before - 2).nan_to_num(0).clamp(0, MAX_POINTS).long()[:, None]
    index = first + torch.arange(count, device=points.device)
    bin_index = (index // points).clamp(max=bins - 1)
    low, high, high_weight, inside = neighbours(positions(side, bin_index, index % points), size)
    inside = inside & (index < bins * side.points[:, None])
    weight = inside.to(high_weight.dtype) / points
    flat = high_weight.new_zeros(len(points), bins * size)
    flat.scatter_add_(1, bin_index * size + low, weight * (1 - high_weight))
    flat.scatter_add_(1, bin_index * size + high, weight * high_weight)
    span = torch.stack([low.where(inside, size).amin(1), high.where(inside, -1).amax(1) + 1], dim=1)
    return flat.view(-1, bins, size), span
