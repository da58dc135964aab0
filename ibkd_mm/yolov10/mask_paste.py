"""From the network's input back to the picture: boxes and masks where they were, at the picture's size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """How a picture lies in the network's input: enlarged by `scale`, moved by `offset`, as (x, y).

    Results are for `width` by `height` pixels.
    """

    width: int
    height: int
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, meta: Mapping[str, Any], rescale: bool) -> "Frame":
        """Read the frame from what the pipeline noted of a picture.

        Padding at the bottom and right moves nothing; `pad_param` (top, bottom, left, right) may say more.

        Args:
            meta: of the picture.
            rescale: whether results are for the original picture or for the network's input.
        """
        if not rescale:
            height, width = meta["img_shape"][:2]
            return cls(width, height)
        height, width = meta["ori_shape"][:2]
        top, _, left, _ = meta.get("pad_param", (0, 0, 0, 0))
        across, down = meta.get("scale_factor", (1.0, 1.0))
        return cls(width, height, (float(across), float(down)), (float(left), float(top)))

    def boxes(self, boxes: Tensor) -> Tensor:
        """Move boxes to the picture and clip them to it, (K, 4) -> (K, 4)."""
        scale, offset = boxes.new_tensor(self.scale * 2), boxes.new_tensor(self.offset * 2)
        size = boxes.new_tensor((self.width, self.height) * 2)
        return ((boxes - offset) / scale).clamp(min=0).minimum(size)


@dataclass(frozen=True)
class _Taps:
    """Which two cells the pixels along one side lie between, how far towards the second. All (pixels,)."""

    first: Tensor
    second: Tensor
    share: Tensor

    @classmethod
    def along(cls, pixels: int, cells: int, scale: float, offset: float, device: torch.device) -> "_Taps":
        """Find the centres of pixels between those of cells; `scale` and `offset` are in cells."""
        place = (torch.arange(pixels, device=device) + 0.5) * scale + offset - 0.5
        place = place.clamp(0, cells - 1)
        first = place.long()
        return cls(first, (first + 1).clamp(max=cells - 1), place - first)

    def __getitem__(self, pixels: slice) -> "_Taps":
        return _Taps(self.first[pixels], self.second[pixels], self.share[pixels])

    def between(self, maps: Tensor, dim: int) -> Tensor:
        """Interpolate along one dimension."""
        share = self.share if dim == -1 else self.share.unsqueeze(-1)
        return maps.index_select(dim, self.first).lerp(maps.index_select(dim, self.second), share)


def paste(
    shares: Tensor, boxes: Tensor, frame: Frame, *, stride: int, threshold: float, together: int
) -> Tensor:
    """Enlarge masks to the picture in one step, and only inside their boxes.

    Args:
        shares: (K, h, w), from 0 to 1, on the cells of the network's input.
        boxes: (K, 4), in the picture.
        frame: how the picture lies in the input.
        stride: pixels of the input along a cell's side.
        threshold: the least share that is the instance's.
        together: how many masks at a time, in one window around the boxes of all of them.

    Returns:
        (K, height, width), booleans.
    """
    (across, down), (left, top), device = frame.scale, frame.offset, shares.device
    rows = _Taps.along(frame.height, shares.shape[1], down / stride, top / stride, device)
    columns = _Taps.along(frame.width, shares.shape[2], across / stride, left / stride, device)
    edges = (boxes - 0.5).ceil().long()  # the first pixels whose centres are in the box and behind it
    corners = edges.tolist()
    masks = torch.zeros(len(shares), frame.height, frame.width, dtype=torch.bool, device=device)
    for start in range(0, len(shares), together):
        part = slice(start, start + together)
        lefts, tops, rights, bottoms = zip(*corners[part], strict=True)
        down_to, along = slice(min(tops), max(bottoms)), slice(min(lefts), max(rights))
        values = columns[along].between(rows[down_to].between(shares[part], -2), -1)
        masks[part, down_to, along] = (values > threshold) & _inside(edges[part], down_to, along)
    return masks


def _inside(edges: Tensor, rows: slice, columns: slice) -> Tensor:
    """Say which pixels of a window are in the boxes, (n, 4) -> (n, rows, columns)."""
    left, top, right, bottom = edges.unsqueeze(-1).unbind(1)
    y = torch.arange(rows.start, rows.stop, device=edges.device)
    x = torch.arange(columns.start, columns.stop, device=edges.device)
    return ((y >= top) & (y < bottom)).unsqueeze(2) & ((x >= left) & (x < right)).unsqueeze(1)
