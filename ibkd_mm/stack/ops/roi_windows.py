"""Windows: the part of a feature map inside each RoI, with its weights."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Limits the memory of gathered windows: 128 MiB of float32.
_MAX_ELEMENTS = 1 << 25
# The indices of a gathered pixel need as much memory as this many channels.
_INDEX_CHANNELS = 8

MapIndex = tuple[slice, slice, slice] | tuple[Tensor, Tensor, Tensor]


class Weights(NamedTuple):
    """Weight matrices of R RoIs on the whole feature map, and the pixels [start, end) with nonzero weight."""

    image: Tensor  # (R,)
    vertical: Tensor  # (R, bins, H)
    rows: Tensor  # (R, 2)
    horizontal: Tensor  # (R, bins, W)
    columns: Tensor  # (R, 2)


class Window(NamedTuple):
    """G RoIs with windows of equal size (h, w): RoI indices, index into (B, H, W, C), and weights."""

    rois: slice | Tensor
    position: MapIndex
    vertical: Tensor  # (G, bins, h)
    horizontal: Tensor  # (G, bins, w)


def windows(weights: Weights, channels: int) -> Iterator[Window]:
    """Yield windows that cover every RoI that is at least partly on the feature map.

    On a CPU each window is a view of one RoI, as copying is slower there than another call. On other devices
    RoIs of equal size, rounded up to powers of two, are gathered together.
    """
    spans = torch.cat([weights.image[:, None], weights.rows, weights.columns], dim=1).tolist()
    visible = [(roi, span) for roi, span in enumerate(spans) if span[1] < span[2] and span[3] < span[4]]
    if weights.vertical.device.type == "cpu":
        return _views(weights, visible)
    return _gathered(weights, visible, channels)


def add_to_window(maps: Tensor, position: MapIndex, value: Tensor) -> None:
    """Add (G, h, w, C) to feature maps (B, H, W, C) in place; windows may overlap."""
    if isinstance(position[0], slice):
        maps[position].add_(value)
    else:
        maps.index_put_(position, value, accumulate=True)


def _views(weights: Weights, visible: list[tuple[int, list[int]]]) -> Iterator[Window]:
    for roi, (image, top, bottom, left, right) in visible:
        index, rows, columns = slice(roi, roi + 1), slice(top, bottom), slice(left, right)
        position = (slice(image, image + 1), rows, columns)
        yield Window(index, position, weights.vertical[index, :, rows], weights.horizontal[index, :, columns])


def _gathered(weights: Weights, visible: list[tuple[int, list[int]]], channels: int) -> Iterator[Window]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for roi, (_, top, bottom, left, right) in visible:
        groups[_power_of_two(bottom - top), _power_of_two(right - left)].append(roi)
    for (height, width), rois in groups.items():
        step = max(1, _MAX_ELEMENTS // (height * width * (channels + _INDEX_CHANNELS)))
        for first in range(0, len(rois), step):
            chosen = torch.tensor(rois[first : first + step], device=weights.image.device)
            vertical, rows = _cut(weights.vertical[chosen], weights.rows[chosen], height)
            horizontal, columns = _cut(weights.horizontal[chosen], weights.columns[chosen], width)
            image = weights.image[chosen]
            position = (image[:, None, None], rows[:, :, None], columns[:, None, :])
            yield Window(chosen, position, vertical, horizontal)


def _cut(weights: Tensor, span: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the weights (G, bins, length) from the start of each span, and their pixels (G, length)."""
    size = weights.shape[2]
    length = min(length, size)
    start = span[:, :1].clamp(max=size - length)
    pixels = start + torch.arange(length, device=span.device)
    return weights.gather(2, pixels[:, None].expand(-1, weights.shape[1], -1)), pixels


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()
