"""RoIAlign with mmcv's signature, and its max pooling, which does not factor: all points are sampled."""

import math
from itertools import product

import torch
from torch import Tensor

from ibkd_mm.stack.ops import roi_average, torchvision_kernels
from ibkd_mm.stack.ops.execution import compute_dtype
from ibkd_mm.stack.ops.roi_geometry import Pooling, Side, neighbours, positions, sides

_MAX = 0
_MAX_SAMPLES = 1 << 25  # limits the memory for samples: 128 MiB of float32
# mmcv's kernel starts its search for the maximum at -10000 and returns the position -1 if no point is above.
_FLOOR, _NO_POINT = -10000.0, -1.0


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool features (B, C, H, W) inside RoIs (R, 5), image index, x1, y1, x2, y2, into `output`.

    `pool_mode` 0 writes the maximum of a bin's points, and its position into `argmax_*`, 1 their average.
    """
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == _MAX:
        for target, result in zip(
            (output, argmax_y, argmax_x), max_forward(input, rois, pooling), strict=True
        ):
            target.copy_(result)
    else:
        kernels = torchvision_kernels if torchvision_kernels.is_preferred("roi_align", input) else roi_average
        output.copy_(kernels.average_forward(input, rois, pooling))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of the features to `grad_input` (B, C, H, W); arguments as in the forward pass."""
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == _MAX:
        grad_input.add_(max_backward(grad_output, rois, argmax_y, argmax_x, grad_input.shape))
    else:
        is_preferred = torchvision_kernels.is_preferred("roi_align", grad_output)
        kernels = torchvision_kernels if is_preferred else roi_average
        grad_input.add_(kernels.average_backward(grad_output, rois, grad_input.shape, pooling))


def max_forward(input: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Return the maxima of features (B, C, H, W) inside RoIs (R, 5), their y and x: (3, R, C, *bins)."""
    dtype, channels = compute_dtype(input), input.size(1)
    features = input.detach().to(dtype).permute(0, 2, 3, 1).contiguous()
    output = features.new_zeros(3, len(rois), channels, *pooling.bins)
    if len(rois) == 0:
        return output
    sides_y_x = sides(rois.to(dtype), pooling)
    points = [max(1, int(side.points.max())) for side in sides_y_x]
    step = max(1, _MAX_SAMPLES // (channels * math.prod(pooling.bins) * math.prod(points)))
    for first in range(0, len(rois), step):
        rows = slice(first, first + step)
        y, x = (
            _coordinates(Side(*(field[rows] for field in side)), bins, count)
            for side, bins, count in zip(sides_y_x, pooling.bins, points, strict=True)
        )
        output[:, rows] = _maxima(_sample(features, rois[rows, 0].long(), y, x), y, x)
    return output


def max_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, shape: torch.Size
) -> Tensor:
    """Return the gradient of features of `shape` (B, C, H, W) from `grad_output` and the argmax positions."""
    dtype, (_, channels, height, width) = compute_dtype(grad_output), shape
    gradient = grad_output.detach().to(dtype)
    rows, y_inside = neighbours(argmax_y.to(dtype), height)
    columns, x_inside = neighbours(argmax_x.to(dtype), width)
    gradient = gradient * (y_inside & x_inside & (argmax_y != _NO_POINT))
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    output = gradient.new_zeros(shape)
    for (y, y_weight), (x, x_weight) in product(rows, columns):
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
    vertical, y_inside = neighbours(y.flatten(1), features.size(1))
    horizontal, x_inside = neighbours(x.flatten(1), features.size(2))
    total = features.new_zeros(())
    for (rows, y_weight), (columns, x_weight) in product(vertical, horizontal):
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
