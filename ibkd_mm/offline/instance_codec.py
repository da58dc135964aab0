"""What is kept of a picture, as few bytes."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.errors import UserError

_HEAD = struct.Struct("<BHHHBH")
_CORNERS = struct.Struct("<4H")
VERSION = 4
"""Goes up when entries are laid out otherwise, or hold other instances of the same teacher."""
_RLE, _BITMAP = 0, 1
_WHOLE = np.float32(65535)
"""A probability of one; they are kept in 16 bits."""
HARD = (0.5,)
"""The probabilities at which a mask is cut where it is kept as one hard mask."""
MOST_LEVELS = 16


def mask_thresholds_of(settings: Mapping[str, Any]) -> tuple[float, ...]:
    """Read `teacher_cache.levels`, at which a mask is cut; `HARD` where there are none."""
    found = settings.get("levels", HARD)
    if isinstance(found, list | tuple) and all(isinstance(each, float) for each in found):
        ends = zip((0.0, *found), (*found, 1.0), strict=True)
        if 0 < len(found) <= MOST_LEVELS and all(low < high for low, high in ends):
            return tuple(found)
    raise UserError(
        f"Expected teacher_cache.levels of 1 to {MOST_LEVELS} probabilities that rise, above 0 and below 1, "
        f"found {found!r}. Set it to (0.5,) for hard masks, or such as (0.25, 0.5, 0.75) for soft ones."
    )


def min_component_ratio_of(settings: Mapping[str, Any]) -> float:
    """Read `teacher_cache.min_component_ratio`, see `remove_small_components`; 0 where it is not set."""
    found = settings.get("min_component_ratio", 0.0)
    if isinstance(found, int | float) and 0 <= found <= 1:
        return float(found)
    raise UserError(f"Expected a teacher_cache.min_component_ratio from 0 to 1, found {found!r}.")


def remove_small_components(mask: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Leave out the parts of a mask that have less than a share of the pixels of its largest.

    A query of a Mask2Former strews some pixels over the picture, and its box is then that of all of them.
    Pixels that touch at a corner are of one part.
    """
    left, top, right, bottom = extents(mask)
    if not share or right <= left:
        return mask
    whole = mask.copy()
    inner = whole[top:bottom, left:right]
    _, parts, about, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(inner), connectivity=8)
    pixels = about[1:, cv2.CC_STAT_AREA]  # the first is what is no part
    for part in 1 + np.flatnonzero(pixels < share * pixels.max()):
        x, y, width, height = about[part, :4]
        window = slice(y, y + height), slice(x, x + width)
        inner[window][parts[window] == part] = 0
    return whole


def main_threshold(levels: Sequence[float]) -> int:
    """Find the level nearest to a half: its mask stands for the instance."""
    return min(range(len(levels)), key=lambda level: abs(levels[level] - 0.5))


def threshold_weights(levels: Sequence[float]) -> NDArray[np.float32]:
    """Weigh the masks cut at levels so that their sum is the probability, as near as they say it.

    Between two levels that is their middle; below the first it is 0 and above the last 1, since most of a
    picture is surely no part of an instance and most of an instance surely one. The weights sum to one.
    """
    steps = [0.0, *((low + high) / 2 for low, high in pairwise(levels)), 1.0]
    return np.diff(steps).astype(np.float32)


@dataclass(frozen=True)
class CachedEntry:
    """A teacher's K instances of a picture of height x width, the likeliest T classes of each."""

    height: int
    width: int
    classes: int
    boxes: NDArray[np.float32]
    """(K, 4) as x1, y1, x2, y2 in pixels."""
    scores: NDArray[np.float32]
    """(K,)."""
    top_classes: NDArray[np.uint16]
    """(K, T), the likeliest first."""
    top_shares: NDArray[np.float32]
    """(K, T), their probabilities; what they lack to one is that of all others and of none."""
    packed_masks: tuple[tuple[int, bytes], ...]
    """K masks of the first level, K of the next and so on, each in the shorter of two forms."""
    levels: tuple[float, ...] = HARD
    """The L probabilities at which masks are cut."""

    @classmethod
    def of(
        cls,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        probabilities: NDArray[np.float32],
        masks: NDArray[np.uint8],
        top: int,
        levels: tuple[float, ...] = HARD,
    ) -> "CachedEntry":
        """Keep the `top` likeliest of (K, classes) probabilities, and (K, height, width) masks.

        Of several levels they are (L, K, height, width).
        """
        size = masks.shape[-2:]
        packed = map(pack_mask, masks.reshape(len(levels) * len(scores), *size))
        return cls.of_packed(size, boxes, scores, probabilities, packed, top, levels)

    @classmethod
    def of_packed(
        cls,
        size: Sequence[int],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        probabilities: NDArray[np.float32],
        packed: Iterable[tuple[int, bytes]],
        top: int,
        levels: tuple[float, ...] = HARD,
    ) -> "CachedEntry":
        """Keep masks that are packed already, those of a level one after the other."""
        classes = probabilities.shape[1]
        likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, : min(top, classes)]
        shares = np.take_along_axis(probabilities, likeliest, axis=1)
        columns = boxes, scores, likeliest.astype(np.uint16), shares
        return cls(size[0], size[1], classes, *columns, tuple(packed), levels)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def masks(self) -> NDArray[np.uint8]:
        """(K, height, width), zeros and ones: those of the level nearest to a half."""
        return self.restored(range(self.first, self.first + len(self)))

    @property
    def first(self) -> int:
        """Where in `packed_masks` those of the level nearest to a half begin."""
        return main_threshold(self.levels) * len(self)

    def restored(self, places: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Unpack masks by their places in `packed_masks`: (n, height, width), zeros and ones."""
        masks = np.zeros((len(places), self.height, self.width), np.uint8)
        for mask, place in zip(masks, places, strict=True):
            _restore(mask, *self.packed_masks[place])
        return masks

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, classes), zero where a class is not among the likeliest."""
        spread = np.zeros((len(self), self.classes), np.float32)
        np.put_along_axis(spread, self.top_classes.astype(np.int64), self.top_shares, axis=1)
        return spread


def pack(entry: CachedEntry) -> bytes:
    """Write an entry as bytes: numbers of fixed size, then the masks."""
    count, top = entry.top_classes.shape
    head = _HEAD.pack(VERSION, entry.height, entry.width, count, top, entry.classes)
    shares = np.concatenate([entry.scores[:, None], entry.top_shares], axis=1)
    kept = np.rint(np.clip(shares, 0, 1) * _WHOLE).astype("<u2")
    forms = bytes(form for form, _ in entry.packed_masks)
    sizes = np.array([len(data) for _, data in entry.packed_masks], "<u4")
    numbers = (entry.boxes.astype("<f4"), kept, entry.top_classes.astype("<u2"), sizes)
    masks = (data for _, data in entry.packed_masks)
    return head + zlib.compress(b"".join([*(each.tobytes() for each in numbers), forms, *masks]), 6)


def unpack(data: bytes, levels: tuple[float, ...] = HARD) -> CachedEntry:
    """Read what `pack` wrote; masks are made of it when they are asked for.

    The levels are those of all entries of a file, which names them once. What is damaged is a ValueError, a
    zlib.error or a struct.error.
    """
    version, height, width, count, top, classes = _HEAD.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"it is of version {version}, and this code reads {VERSION}")
    body = zlib.decompress(memoryview(data)[_HEAD.size :])
    boxes = np.frombuffer(body, "<f4", 4 * count).reshape(count, 4)
    shares: Any = np.frombuffer(body, "<u2", count * (1 + top), at := 16 * count).reshape(count, 1 + top)
    shares = shares / _WHOLE
    labels = np.frombuffer(body, "<u2", count * top, at := at + 2 * count * (1 + top)).reshape(count, top)
    number = count * len(levels)
    sizes = np.frombuffer(body, "<u4", number, at := at + 2 * count * top).tolist()
    forms = body[(at := at + 4 * number) : at + number]
    at += number
    masks = []
    for form, size in zip(forms, sizes, strict=True):
        masks.append((form, body[at : at + size]))
        at += size
    if at != len(body) or (labels >= classes).any():
        raise ValueError("its parts do not fit together")
    columns = boxes, shares[:, 0], labels, shares[:, 1:]
    return CachedEntry(height, width, classes, *columns, tuple(masks), levels)


def pack_mask(mask: NDArray[np.uint8]) -> tuple[int, bytes]:
    """Take runs of a mask as COCO writes them, or the bits inside its box, whichever is shorter."""
    runs: Any = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return _RLE, runs
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    bitmap = _CORNERS.pack(top, left, bottom, right) + np.packbits(mask[top:bottom, left:right]).tobytes()
    return (_BITMAP, bitmap) if len(bitmap) < len(runs) else (_RLE, runs)


def _restore(mask: NDArray[np.uint8], form: int, data: bytes) -> None:
    if form == _RLE:
        mask[:] = coco_mask.decode({"size": list(mask.shape), "counts": data})
        return
    top, left, bottom, right = _CORNERS.unpack_from(data)
    shape = bottom - top, right - left
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=_CORNERS.size), count=shape[0] * shape[1])
    mask[top:bottom, left:right] = bits.reshape(shape)
