"""The parts of a feature map that lie under RoIs, with the weights that belong to them."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Bounds the memory of gathered windows: 128 MiB of float32.
_ELEMENTS_AT_ONCE = 1 << 25
# The indices that gather a pixel weigh as much as this many channels.
_INDEX_CHANNELS = 8

Place = tuple[slice, slice, slice] | tuple[Tensor, Tensor, Tensor]


class Weights(NamedTuple):
    """The weight matrices of R RoIs on the whole map, and the pixels [from, to) where they are not zero."""

    image: Tensor  # (R,)
    vertical: Tensor  # (R, bins, H)
    rows: Tensor  # (R, 2)
    horizontal: Tensor  # (R, bins, W)
    columns: Tensor  # (R, 2)


class Window(NamedTuple):
    """G RoIs with windows of one size (h, w): which, where on the maps (B, H, W, C), and their weights."""

    rois: slice | Tensor
    place: Place
    vertical: Tensor  # (G, bins, h)
    horizontal: Tensor  # (G, bins, w)


def windows(weights: Weights, channels: int) -> Iterator[Window]:
    """Yield windows that cover every RoI of which something is on the map.

    On a CPU each is a view of one RoI, as copying costs more there than a call does. Elsewhere many RoIs are
    gathered at once, by sizes rounded up to powers of two.
    """
    spans = torch.cat([weights.image[:, None], weights.rows, weights.columns], dim=1).tolist()
    seen = [(roi, span) for roi, span in enumerate(spans) if span[1] < span[2] and span[3] < span[4]]
    if weights.vertical.device.type == "cpu":
        return _views(weights, seen)
    return _gathered(weights, seen, channels)


def add_to_window(maps: Tensor, place: Place, value: Tensor) -> None:
    """Add (G, h, w, C) to maps (B, H, W, C) in place; windows may overlap each other."""
    if isinstance(place[0], slice):
        maps[place].add_(value)
    else:
        maps.index_put_(place, value, accumulate=True)


def _views(weights: Weights, seen: list[tuple[int, list[int]]]) -> Iterator[Window]:
    for roi, (image, top, bottom, left, right) in seen:
        one, rows, columns = slice(roi, roi + 1), slice(top, bottom), slice(left, right)
        place = (slice(image, image + 1), rows, columns)
        yield Window(one, place, weights.vertical[one, :, rows], weights.horizontal[one, :, columns])


def _gathered(weights: Weights, seen: list[tuple[int, list[int]]], channels: int) -> Iterator[Window]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for roi, (_, top, bottom, left, right) in seen:
        groups[_power_of_two(bottom - top), _power_of_two(right - left)].append(roi)
    for (height, width), rois in groups.items():
        step = max(1, _ELEMENTS_AT_ONCE // (height * width * (channels + _INDEX_CHANNELS)))
        for first in range(0, len(rois), step):
            chosen = torch.tensor(rois[first : first + step], device=weights.image.device)
            vertical, rows = _cut(weights.vertical[chosen], weights.rows[chosen], height)
            horizontal, columns = _cut(weights.horizontal[chosen], weights.columns[chosen], width)
            image = weights.image[chosen]
            place = (image[:, None, None], rows[:, :, None], columns[:, None, :])
            yield Window(chosen, place, vertical, horizontal)


def _cut(weights: Tensor, span: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the weights (G, bins, length) from where spans begin, and the pixels (G, length) they are of."""
    size = weights.shape[2]
    length = min(length, size)
    start = span[:, :1].clamp(max=size - length)
    pixels = start + torch.arange(length, device=span.device)
    return weights.gather(2, pixels[:, None].expand(-1, weights.shape[1], -1)), pixels


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()
