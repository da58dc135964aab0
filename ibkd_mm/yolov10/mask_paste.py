"""Transform boxes and masks from the network's input back to the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Position of an image in the network's input: enlarged by `scale`, then moved by `offset`, both (x, y).

    Results have `width` x `height` pixels.
    """

    width: int
    height: int
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], rescale: bool) -> "Frame":
        """Read the position from the metadata of an image.

        Padding below and to the right has no offset; `pad_param` (top, bottom, left, right) may define one.
        `rescale` is whether results refer to the original image or to the network's input.
        """
        if not rescale:
            height, width = meta["img_shape"][:2]
            return cls(width, height)
        height, width = meta["ori_shape"][:2]
        top, _, left, _ = meta.get("pad_param", (0, 0, 0, 0))
        across, down = meta.get("scale_factor", (1.0, 1.0))
        return cls(width, height, (float(across), float(down)), (float(left), float(top)))

    def boxes(self, boxes: Tensor) -> Tensor:
        """Transform boxes to the image and clip them to it, (K, 4) -> (K, 4)."""
        scale, offset = boxes.new_tensor(self.scale * 2), boxes.new_tensor(self.offset * 2)
        size = boxes.new_tensor((self.width, self.height) * 2)
        return ((boxes - offset) / scale).clamp(min=0).minimum(size)


@dataclass(frozen=True)
class _Taps:
    """The two cells around each pixel along a side, and how far it is to the second. All (pixels,)."""

    first: Tensor
    second: Tensor
    fraction: Tensor

    @classmethod
    def along(cls, pixels: int, cells: int, scale: float, offset: float, device: torch.device) -> "_Taps":
        place = (torch.arange(pixels, device=device) + 0.5) * scale + offset - 0.5
        place = place.clamp(0, cells - 1)
        first = place.long()
        return cls(first, (first + 1).clamp(max=cells - 1), place - first)

    def __getitem__(self, pixels: slice) -> "_Taps":
        return _Taps(self.first[pixels], self.second[pixels], self.fraction[pixels])

    def interpolate(self, cells: Tensor, dim: int) -> Tensor:
        fraction = self.fraction if dim == -1 else self.fraction.unsqueeze(-1)
        return cells.index_select(dim, self.first).lerp(cells.index_select(dim, self.second), fraction)


def paste_masks(
    masks: Tensor, boxes: Tensor, frame: Frame, *, stride: int, threshold: float, chunk: int
) -> Tensor:
    """Enlarge masks to the image with bilinear interpolation, only inside their boxes.

    Args:
        masks: (K, h, w), probabilities in cells of `stride` pixels of the network's input.
        boxes: (K, 4), in the image.
        frame: position of the image in the input.
        stride: side of a cell in pixels of the input.
        threshold: minimum probability of a pixel of the instance.
        chunk: number of masks at a time, in one window around all of their boxes.
    """
    (across, down), (left, top), device = frame.scale, frame.offset, masks.device
    rows = _Taps.along(frame.height, masks.shape[1], down / stride, top / stride, device)
    columns = _Taps.along(frame.width, masks.shape[2], across / stride, left / stride, device)
    edges = (boxes - 0.5).ceil().long()  # the first pixels whose centres are inside and behind the box
    corners = edges.tolist()
    pasted = torch.zeros(len(masks), frame.height, frame.width, dtype=torch.bool, device=device)
    for start in range(0, len(masks), chunk):
        part = slice(start, start + chunk)
        lefts, tops, rights, bottoms = zip(*corners[part], strict=True)
        down_to, along = slice(min(tops), max(bottoms)), slice(min(lefts), max(rights))
        values = columns[along].interpolate(rows[down_to].interpolate(masks[part], -2), -1)
        pasted[part, down_to, along] = (values > threshold) & _inside(edges[part], down_to, along)
    return pasted


def _inside(edges: Tensor, rows: slice, columns: slice) -> Tensor:
    left, top, right, bottom = edges.unsqueeze(-1).unbind(1)
    y = torch.arange(rows.start, rows.stop, device=edges.device)
    x = torch.arange(columns.start, columns.stop, device=edges.device)
    return ((y >= top) & (y < bottom)).unsqueeze(2) & ((x >= left) & (x < right)).unsqueeze(1)
