"""RoIAlign with average pooling, as two small matrix products per RoI instead of thousands of sampled points.

Bilinear weights, and the average over the points of a bin, factor into a vertical and a horizontal part. So a
pooled RoI is V @ features @ H^T, where V and H, (bins, pixels), are the points' summed weights. Only the
part of the feature map inside the RoI, its window, is read.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision, one_thread
from ibkd_mm.stack.ops.roi_geometry import MAX_POINTS, Pooling, Side, neighbours, positions, sides

_MAX_WEIGHTS = 1 << 24  # limits the memory for the weights of RoIs
_MAX_ELEMENTS = 1 << 25  # limits the memory of gathered windows: 128 MiB of float32
_INDEX_CHANNELS = 8  # the indices of a gathered pixel need as much memory as this many channels


class _Weights(NamedTuple):
    """Weight matrices of R RoIs on the whole feature map, and the pixels [start, end) with nonzero weight."""

    image: Tensor  # (R,)
    vertical: Tensor  # (R, bins, H)
    rows: Tensor  # (R, 2)
    horizontal: Tensor  # (R, bins, W)
    columns: Tensor  # (R, 2)


class _Window(NamedTuple):
    """G RoIs with windows of equal size (h, w): RoI indices, index into (B, H, W, C), and weights."""

    rois: slice | Tensor
    position: tuple[slice, slice, slice] | tuple[Tensor, Tensor, Tensor]
    vertical: Tensor  # (G, bins, h)
    horizontal: Tensor  # (G, bins, w)


def average_forward(input: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Pool features (B, C, H, W) inside RoIs (R, 5) into (R, C, *bins)."""
    features = input.detach().to(compute_dtype(input)).permute(0, 2, 3, 1).contiguous()
    output = features.new_zeros(len(rois), *pooling.bins, input.size(1))
    with full_precision(input), one_thread(input):
        for rows, window in _windows(rois.to(features.dtype), pooling, input.shape):
            columns = window.horizontal[:, None] @ features[window.position]  # (G, h, bins, C)
            pooled = (window.vertical @ columns.flatten(2)).unflatten(2, columns.shape[2:])
            output[rows][window.rois] = pooled
    return output.permute(0, 3, 1, 2)


def average_backward(grad_output: Tensor, rois: Tensor, shape: torch.Size, pooling: Pooling) -> Tensor:
    """Return the gradient of features of `shape` (B, C, H, W) from `grad_output` (R, C, *bins)."""
    gradient = grad_output.detach().to(compute_dtype(grad_output)).permute(0, 2, 3, 1).contiguous()
    output = gradient.new_zeros(shape[0], *shape[2:], shape[1])
    with full_precision(grad_output), one_thread(grad_output):
        for rows, window in _windows(rois.to(gradient.dtype), pooling, shape):
            bins = gradient[rows][window.rois]  # (G, bins, bins, C)
            columns = (window.vertical.mT @ bins.flatten(2)).unflatten(2, bins.shape[2:])
            part = window.horizontal.mT[:, None] @ columns  # (G, h, w, C)
            if isinstance(window.position[0], slice):
                output[window.position].add_(part)
            else:  # windows may overlap
                output.index_put_(window.position, part, accumulate=True)
    return output.permute(0, 3, 1, 2)


def _windows(rois: Tensor, pooling: Pooling, shape: torch.Size) -> Iterator[tuple[slice, _Window]]:
    """Yield parts of RoIs, with windows that cover their RoIs that are at least partly on maps of `shape`.

    On a CPU each window is a view of one RoI, as copying is slower there than another call. On other devices
    RoIs of equal size, rounded up to powers of two, are gathered together.
    """
    _, channels, *size = shape
    step = max(1, _MAX_WEIGHTS // (max(pooling.bins) * max(size)))
    for first in range(0, len(rois), step):
        rows = slice(first, first + step)
        axes = zip(sides(rois[rows], pooling), pooling.bins, size, strict=True)
        vertical, horizontal = (_axis_weights(*axis, pooling.sampling_ratio) for axis in axes)
        weights = _Weights(rois[rows, 0].long(), *vertical, *horizontal)
        spans = torch.cat([weights.image[:, None], weights.rows, weights.columns], dim=1).tolist()
        visible = [(roi, span) for roi, span in enumerate(spans) if span[1] < span[2] and span[3] < span[4]]
        is_cpu = rois.device.type == "cpu"
        for window in _views(weights, visible) if is_cpu else _gathered(weights, visible, channels):
            yield rows, window


def _axis_weights(side: Side, bins: int, size: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Return the weights (R, bins, size) of an axis and the range of pixels (R, 2) with nonzero weight.

    Only points that can be on the feature map are computed, so an RoI far outside takes no longer.
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
    around, inside = neighbours(positions(side, bin_index, index % points), size)
    inside = inside & (index < bins * side.points[:, None])
    flat = side.start.new_zeros(len(points), bins * size)
    for pixel, weight in around:
        flat.scatter_add_(1, bin_index * size + pixel, inside.to(flat.dtype) / points * weight)
    (low, _), (high, _) = around
    span = torch.stack([low.where(inside, size).amin(1), high.where(inside, -1).amax(1) + 1], dim=1)
    return flat.view(-1, bins, size), span


def _views(weights: _Weights, visible: list[tuple[int, list[int]]]) -> Iterator[_Window]:
    for roi, (image, top, bottom, left, right) in visible:
        index, rows, columns = slice(roi, roi + 1), slice(top, bottom), slice(left, right)
        position = (slice(image, image + 1), rows, columns)
        yield _Window(
            index, position, weights.vertical[index, :, rows], weights.horizontal[index, :, columns]
        )


def _gathered(weights: _Weights, visible: list[tuple[int, list[int]]], channels: int) -> Iterator[_Window]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for roi, (_, top, bottom, left, right) in visible:
        groups[_power_of_two(bottom - top), _power_of_two(right - left)].append(roi)
    for (height, width), rois in groups.items():
        step = max(1, _MAX_ELEMENTS // (height * width * (channels + _INDEX_CHANNELS)))
        for first in range(0, len(rois), step):
            chosen = torch.tensor(rois[first : first + step], device=weights.image.device)
            vertical, rows = _cut(weights.vertical[chosen], weights.rows[chosen], height)
            horizontal, columns = _cut(weights.horizontal[chosen], weights.columns[chosen], width)
            position = (weights.image[chosen][:, None, None], rows[:, :, None], columns[:, None, :])
            yield _Window(chosen, position, vertical, horizontal)


def _cut(weights: Tensor, span: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the weights (G, bins, length) from the start of each span, and their pixels (G, length)."""
    length = min(length, weights.shape[2])
    start = span[:, :1].clamp(max=weights.shape[2] - length)
    pixels = start + torch.arange(length, device=span.device)
    return weights.gather(2, pixels[:, None].expand(-1, weights.shape[1], -1)), pixels


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()
