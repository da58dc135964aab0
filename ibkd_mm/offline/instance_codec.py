"""How the instances that a teacher predicted in an image are packed into few bytes."""

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
from ibkd_mm.registry import TASK_UTILS

ONE_THRESHOLD = (0.5,)  # of hard masks
MAX_THRESHOLDS = 16
_HEAD = struct.Struct("<BHHHBH")
_CORNERS = struct.Struct("<4H")
_RLE, _BITMAP = 0, 1
_ONE = np.float32(65535)  # a probability of 1: probabilities are stored in 16 bits
_SCORE_TOLERANCE, _MASK_TOLERANCE, _MIN_PIXELS = 2e-3, 0.01, 4


def mask_thresholds_of(settings: Mapping[str, Any]) -> tuple[float, ...]:
    """Read and check `teacher_cache.mask_thresholds`."""
    found = settings.get("mask_thresholds", ONE_THRESHOLD)
    if isinstance(found, list | tuple) and all(isinstance(each, float) for each in found):
        limits = zip((0.0, *found), (*found, 1.0), strict=True)
        if 0 < len(found) <= MAX_THRESHOLDS and all(low < high for low, high in limits):
            return tuple(found)
    raise UserError(
        f"Expected teacher_cache.mask_thresholds with 1 to {MAX_THRESHOLDS} ascending probabilities "
        f"between 0 and 1, found {found!r}. Set (0.5,) for hard masks, or (0.25, 0.5, 0.75) for soft ones."
    )


def min_component_ratio_of(settings: Mapping[str, Any]) -> float:
    """Read and check `teacher_cache.min_component_ratio`."""
    found = settings.get("min_component_ratio", 0.0)
    if isinstance(found, int | float) and 0 <= found <= 1:
        return float(found)
    raise UserError(f"Expected a teacher_cache.min_component_ratio from 0 to 1, found {found!r}.")


def remove_small_components(mask: NDArray[np.uint8], min_ratio: float) -> NDArray[np.uint8]:
    """Remove components of a mask that are smaller than `min_ratio` of its largest one (8-connected).

    The mask of a Mask2Former query may have stray pixels all over the image, which would enlarge its box.
    """
    left, top, right, bottom = extents(mask)
    if not min_ratio or right <= left:
        return mask
    result = mask.copy()
    inner = result[top:bottom, left:right]
    _, components, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(inner), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # the first is the background
    for component in 1 + np.flatnonzero(areas < min_ratio * areas.max()):
        x, y, width, height = stats[component, :4]
        window = slice(y, y + height), slice(x, x + width)
        inner[window][components[window] == component] = 0
    return result


def main_threshold(thresholds: Sequence[float]) -> int:
    """Return the index of the threshold nearest to 0.5: its mask stands for the instance."""
    return min(range(len(thresholds)), key=lambda index: abs(thresholds[index] - 0.5))


def threshold_weights(thresholds: Sequence[float]) -> NDArray[np.float32]:
    """Return the weights with which masks, one for each threshold, sum to an estimate of the probability.

    Between two thresholds the estimate is their middle. Below the first it is 0 and above the last 1, since
    most pixels are clearly outside or clearly inside an instance. The weights sum to 1.
    """
    steps = [0.0, *((low + high) / 2 for low, high in pairwise(thresholds)), 1.0]
    return np.diff(steps).astype(np.float32)


@dataclass(frozen=True)
class CachedInstances:
    """K instances of an image of height x width, each with its T most probable classes."""

    height: int
    width: int
    classes: int
    boxes: NDArray[np.float32]
    """(K, 4) as x1, y1, x2, y2 in pixels."""
    scores: NDArray[np.float32]
    top_classes: NDArray[np.uint16]
    """(K, T), the most probable first."""
    top_probabilities: NDArray[np.float32]
    """(K, T); what is missing to 1 is that of all other classes and of no object."""
    packed_masks: tuple[tuple[int, bytes], ...]
    """(format, data) of the K masks of the first threshold, then those of the next and so on."""
    thresholds: tuple[float, ...] = ONE_THRESHOLD

    @classmethod
    def of(
        cls,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        probabilities: NDArray[np.float32],
        masks: NDArray[np.uint8],
        topk: int,
        thresholds: tuple[float, ...] = ONE_THRESHOLD,
    ) -> "CachedInstances":
        """Keep the `topk` most probable classes and pack masks, ([thresholds,] K, height, width)."""
        size = masks.shape[-2:]
        packed = map(pack_mask, masks.reshape(len(thresholds) * len(scores), *size))
        return cls.of_packed(size, boxes, scores, probabilities, packed, topk, thresholds)

    @classmethod
    def of_packed(
        cls,
        size: Sequence[int],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        probabilities: NDArray[np.float32],
        packed: Iterable[tuple[int, bytes]],
        topk: int,
        thresholds: tuple[float, ...] = ONE_THRESHOLD,
    ) -> "CachedInstances":
        """Do the same with masks that are packed already, in the order of `packed_masks`."""
        classes = probabilities.shape[1]
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, : min(topk, classes)]
        columns = boxes, scores, top.astype(np.uint16), np.take_along_axis(probabilities, top, axis=1)
        return cls(size[0], size[1], classes, *columns, tuple(packed), thresholds)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def masks(self) -> NDArray[np.uint8]:
        """(K, height, width), zeros and ones: those of the main threshold."""
        return self.unpack_masks(range(self.first, self.first + len(self)))

    @property
    def first(self) -> int:
        """Index of the first mask of the main threshold in `packed_masks`."""
        return main_threshold(self.thresholds) * len(self)

    def unpack_masks(self, indices: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Unpack some of `packed_masks`: (n, height, width), zeros and ones."""
        masks = np.zeros((len(indices), self.height, self.width), np.uint8)
        for mask, index in zip(masks, indices, strict=True):
            _unpack_mask(mask, *self.packed_masks[index])
        return masks

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, classes), 0 for classes that were not kept."""
        dense = np.zeros((len(self), self.classes), np.float32)
        np.put_along_axis(dense, self.top_classes.astype(np.int64), self.top_probabilities, axis=1)
        return dense


@TASK_UTILS.register_module()
class InstanceCodec:
    """Packs `CachedInstances`: numbers of fixed size, then the masks, all compressed.

    Args:
        settings: `teacher_cache` of the config that wrote the cache.
    """

    version = 4
    """Changes with the layout of an entry, or if the same teacher's instances are selected differently."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.thresholds = mask_thresholds_of(settings)
        self.score_thr = float((settings.get("instances") or {}).get("score_thr", 0.0))

    def count(self, entry: CachedInstances) -> int:
        """Return the number of instances."""
        return len(entry)

    def encode(self, entry: CachedInstances) -> bytes:
        """Pack an entry."""
        count, topk = entry.top_classes.shape
        head = _HEAD.pack(self.version, entry.height, entry.width, count, topk, entry.classes)
        probabilities = np.concatenate([entry.scores[:, None], entry.top_probabilities], axis=1)
        rounded = np.rint(np.clip(probabilities, 0, 1) * _ONE).astype("<u2")
        formats = bytes(form for form, _ in entry.packed_masks)
        sizes = np.array([len(data) for _, data in entry.packed_masks], "<u4")
        numbers = (entry.boxes.astype("<f4"), rounded, entry.top_classes.astype("<u2"), sizes)
        masks = (data for _, data in entry.packed_masks)
        return head + zlib.compress(b"".join([*(each.tobytes() for each in numbers), formats, *masks]), 6)

    def decode(self, data: bytes) -> CachedInstances:
        """Unpack an entry; its masks stay packed until they are used."""
        version, height, width, count, topk, classes = _HEAD.unpack_from(data)
        if version != self.version:
            raise ValueError(f"it is of version {version}, and this code reads {self.version}")
        body = zlib.decompress(memoryview(data)[_HEAD.size :])
        at = 0

        def take(dtype: str, number: int) -> NDArray[Any]:
            nonlocal at
            found = np.frombuffer(body, dtype, number, at)
            at += found.nbytes
            return found

        boxes = take("<f4", 4 * count).reshape(count, 4)
        probabilities = take("<u2", count * (1 + topk)).reshape(count, 1 + topk).astype(np.float32) / _ONE
        labels = take("<u2", count * topk).reshape(count, topk)
        number = count * len(self.thresholds)
        sizes = take("<u4", number).tolist()
        formats = take("u1", number).tolist()
        masks = []
        for form, size in zip(formats, sizes, strict=True):
            masks.append((form, body[at : at + size]))
            at += size
        if at != len(body) or (labels >= classes).any():
            raise ValueError("its parts do not fit together")
        columns = boxes, probabilities[:, 0], labels, probabilities[:, 1:]
        return CachedInstances(height, width, classes, *columns, tuple(masks), self.thresholds)

    def is_same(self, cached: CachedInstances, predicted: CachedInstances) -> bool:
        """Find each instance in the other entry, except at the lowest scores that are kept.

        Another batch size changes the last digits of a score and some pixels along edges.
        """
        pair = (cached, predicted)
        if len({(entry.height, entry.width, entry.classes) for entry in pair}) > 1:
            return False
        return all(
            any(_matches(one, row, other, candidate) for candidate in range(len(other)))
            for one, other in (pair, pair[::-1])
            for row in np.flatnonzero(one.scores > self.score_thr + _SCORE_TOLERANCE)
        )


def _matches(one: CachedInstances, row: int, other: CachedInstances, candidate: int) -> bool:
    difference = np.abs(one.probabilities[row] - other.probabilities[candidate]).max()
    if max(abs(one.scores[row] - other.scores[candidate]), difference) > _SCORE_TOLERANCE:
        return False
    (mask,), (found,) = one.unpack_masks([one.first + row]), other.unpack_masks([other.first + candidate])
    return int((mask ^ found).sum()) <= max(_MIN_PIXELS, _MASK_TOLERANCE * int((mask | found).sum()))


def pack_mask(mask: NDArray[np.uint8]) -> tuple[int, bytes]:
    """Encode a mask as COCO's run lengths, or as the bits inside its box, whichever is shorter."""
    runs: Any = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return _RLE, runs
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    bitmap = _CORNERS.pack(top, left, bottom, right) + np.packbits(mask[top:bottom, left:right]).tobytes()
    return (_BITMAP, bitmap) if len(bitmap) < len(runs) else (_RLE, runs)


def _unpack_mask(mask: NDArray[np.uint8], form: int, data: bytes) -> None:
    if form == _RLE:
        mask[:] = coco_mask.decode({"size": list(mask.shape), "counts": data})
        return
    top, left, bottom, right = _CORNERS.unpack_from(data)
    shape = bottom - top, right - left
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=_CORNERS.size), count=shape[0] * shape[1])
    mask[top:bottom, left:right] = bits.reshape(shape)
