"""RoIAlign with max pooling. The maximum does not factor, so all points are sampled."""

from itertools import product

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype
from ibkd_mm.stack.ops.roi_average import Pooling
from ibkd_mm.stack.ops.roi_geometry import Side, neighbours, positions, sides

# Limits the memory for samples: 128 MiB of float32.
_MAX_SAMPLES = 1 << 25
# mmcv's kernel starts its search for the maximum at -10000 and returns the position -1 if no point is above.
_FLOOR, _NO_POINT = -10000.0, -1.0


def max_forward(input: Tensor, rois: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maxima of features (B, C, H, W) inside RoIs (R, 5), their y and x, each (R, C, *bins)."""
    dtype, channels = compute_dtype(input), input.size(1)
    features = input.detach().to(dtype).permute(0, 2, 3, 1).contiguous()
    output = features.new_zeros(3, len(rois), channels, *pooling.bins)
    if len(rois) == 0:
        return output[0], output[1], output[2]
    sides_y_x = sides(rois.to(dtype), *pooling)
    points = [max(1, int(side.points.max())) for side in sides_y_x]
    samples = channels * pooling.bins[0] * pooling.bins[1] * points[0] * points[1]
    step = max(1, _MAX_SAMPLES // samples)
    for first in range(0, len(rois), step):
        rows = slice(first, first + step)
        y, x = (
            _coordinates(Side(*(field[rows] for field in side)), bins, count)
            for side, bins, count in zip(sides_y_x, pooling.bins, points, strict=True)
        )
        output[:, rows] = _maxima(_sample(features, rois[rows, 0].long(), y, x), y, x)
    return output[0], output[1], output[2]


def max_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, shape: torch.Size
) -> Tensor:
    """Return the gradient of features of `shape` (B, C, H, W) from `grad_output` and the argmax positions."""
    dtype, (_, channels, height, width) = compute_dtype(grad_output), shape
    gradient = grad_output.detach().to(dtype)
    y_low, y_high, y_fraction, y_inside = neighbours(argmax_y.to(dtype), height)
    x_low, x_high, x_fraction, x_inside = neighbours(argmax_x.to(dtype), width)
    gradient = gradient * (y_inside & x_inside & (argmax_y != _NO_POINT))
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    output = gradient.new_zeros(shape)
    for (y, y_weight), (x, x_weight) in product(
        ((y_low, 1 - y_fraction), (y_high, y_fraction)), ((x_low, 1 - x_fraction), (x_high, x_fraction))
    ):
        pixel = (plane[:, :, None, None] * height + y) * width + x
        output.view(-1).index_add_(0, pixel.flatten(), (gradient * y_weight * x_weight).flatten())
    return output


def _coordinates(side: Side, bins: int, max_points: int) -> Tensor:
    """Return the points of an axis (R, bins, max_points), NaN where a bin has fewer points."""
    point = torch.arange(max_points, device=side.start.device)
    coordinates = positions(side, torch.arange(bins, device=point.device)[None, :, None], point[None, None])
    return coordinates.where(point < side.points[:, None, None], torch.nan)


def _sample(features: Tensor, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sample features (B, H, W, C) at y (R, bins, I) and x (R, bins, J): (R, bins * I, bins * J, C)."""
    y_low, y_high, y_fraction, y_inside = neighbours(y.flatten(1), features.size(1))
    x_low, x_high, x_fraction, x_inside = neighbours(x.flatten(1), features.size(2))
    total = features.new_zeros(())
    for (rows, y_weight), (columns, x_weight) in product(
        ((y_low, 1 - y_fraction), (y_high, y_fraction)), ((x_low, 1 - x_fraction), (x_high, x_fraction))
    ):
        weight = (y_weight * y_inside)[:, :, None] * (x_weight * x_inside)[:, None]
        total = total + features[image[:, None, None], rows[:, :, None], columns[:, None]] * weight[..., None]
    return total


def _maxima(samples: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return maximum, its y and its x (3, R, C, bins, bins) of the result of `_sample`."""
    exists = (y == y).flatten(1)[:, :, None] & (x == x).flatten(1)[:, None]
    samples = samples.where(exists[..., None], -torch.inf)
    samples = samples.unflatten(2, x.shape[1:]).unflatten(1, y.shape[1:])  # (R, bins, I, bins, J, C)
    maximum, index = samples.permute(0, 5, 1, 3, 2, 4).flatten(4).max(dim=-1)
    points = x.shape[2]
    at_y = y[:, None, :, None].expand(*index.shape, -1).gather(-1, (index // points)[..., None])[..., 0]
    at_x = x[:, None, None].expand(*index.shape, -1).gather(-1, (index % points)[..., None])[..., 0]
    found = maximum > _FLOOR
    return torch.stack(
        [maximum.where(found, _FLOOR), at_y.where(found, _NO_POINT), at_x.where(found, _NO_POINT)]
    )
