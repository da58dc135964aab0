"""A teacher's cached instances in a training pipeline.

`LoadTeacherInstances` adds them to an image as ignored instances: every transform that moves, crops or mixes
images treats ignored instances like ground truth, so both are warped by the same code. The label of such an
instance is its id: the cache, the image and the row it comes from. `SplitTeacherInstances` separates them at
the end. A soft mask is carried as several hard ones, cut at thresholds, and joined again at the end.
"""

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import autocast_box_type, get_box_tensor
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ibkd_mm.datasets.transforms.annotated_image import IGNORE_LABEL, AnnotatedImage
from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.errors import UserError
from ibkd_mm.offline.instance_codec import (
    MAX_THRESHOLDS,
    CachedInstances,
    main_threshold,
    threshold_weights,
)
from ibkd_mm.offline.store import CacheReader
from ibkd_mm.registry import TRANSFORMS

_IDS_PER_IMAGE = (1 << 12) * MAX_THRESHOLDS  # more masks than any image has, of 4096 instances
_FIRST_ID = IGNORE_LABEL + 1
_IDS_PER_CACHE = 1 << 44
_CACHES = 1 << 15
_RECENT_ENTRIES = 16
_Masks = NDArray[np.uint8] | None


@TRANSFORMS.register_module()
class LoadTeacherInstances(BaseTransform):
    """Add the cached instances of an image to its ground truth, after `LoadAnnotations`.

    An image that is not in the cache stays as it is. With `pseudo_label_thr`, one without ground truth is
    skipped instead (the dataset draws another): it may show objects that nobody labelled.

    Args:
        cache: the file.
        score_thr: score that a teacher instance must exceed.
        pseudo_label_thr: score above which an instance is also a pseudo label, that is ground truth; None for
            no pseudo labels.
        ignore_thr: score above which an instance below `pseudo_label_thr` is an ignore region: a YOLOv10's
            predictions in its box are neither right nor wrong. None to treat it as background.
        max_iou: IoU with a true instance (of masks; of boxes if no masks are loaded) from which on an
            instance counts as that one and becomes neither a pseudo label nor an ignore region.
    """

    carries_teacher: ClassVar[bool] = True

    def __init__(
        self,
        cache: str,
        score_thr: float = 0.3,
        pseudo_label_thr: float | None = None,
        ignore_thr: float | None = None,
        max_iou: float = 0.3,
    ) -> None:
        self.reader, self.score_thr, self.pseudo_label_thr = CacheReader(cache), score_thr, pseudo_label_thr
        self.ignore_thr, self.max_iou = ignore_thr, max_iou
        if ignore_thr is not None and (pseudo_label_thr is None or ignore_thr >= pseudo_label_thr):
            raise UserError(
                "Expected an ignore_thr below the pseudo_label_thr of LoadTeacherInstances, found "
                f"ignore_thr={ignore_thr} and pseudo_label_thr={pseudo_label_thr}."
            )
        self._first_id = _first_id(self.reader)

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add the instances; None for an image with neither ground truth nor a cached entry."""
        found = self.reader.find(str(results["img_id"]))
        if found is None:
            unknown = self.pseudo_label_thr is not None and not len(results["gt_bboxes"])
            return None if unknown else results
        number, entry = found
        image = AnnotatedImage.from_results(results)
        own, cached = image.image.shape[:2], (entry.height, entry.width)
        if own != cached:
            raise UserError(
                f"The teacher saw image {results['img_id']} with size {cached}, and here it is {own} "
                f"({self.reader.path}). Put LoadTeacherInstances directly after LoadAnnotations, or write "
                "the cache again."
            )
        rows = np.flatnonzero(entry.scores > self.score_thr)
        places, boxes, masks = _teacher_masks(entry, rows, boxes_only=image.masks is None)
        ids = self._first_id + number * _IDS_PER_IMAGE + places
        extended = _with_instances(image, boxes, masks, ids, ignored=True)
        if self.pseudo_label_thr is not None:
            confident = entry.scores > self.pseudo_label_thr
            extended = self._with_unlabelled(extended, entry, confident, ignored=False)
            if self.ignore_thr is not None:
                unsure = (entry.scores > self.ignore_thr) & ~confident
                extended = self._with_unlabelled(extended, entry, unsure, ignored=True)
        return extended.write(results)

    def _with_unlabelled(
        self, image: AnnotatedImage, entry: CachedInstances, chosen: NDArray[np.bool_], *, ignored: bool
    ) -> AnnotatedImage:
        """Add those that overlap no true instance, as pseudo labels or as ignore regions."""
        rows = np.flatnonzero(chosen)
        boxes = entry.boxes[rows]
        masks = None if image.masks is None else entry.unpack_masks(rows + entry.first)
        new = _find_unlabelled(image, boxes, masks, self.max_iou)
        labels = np.full(len(new), IGNORE_LABEL) if ignored else entry.top_classes[rows[new], 0]
        return _with_instances(
            image, boxes[new], None if masks is None else masks[new], labels, ignored=ignored
        )


def _teacher_masks(
    entry: CachedInstances, rows: NDArray[Any], *, boxes_only: bool
) -> tuple[NDArray[Any], NDArray[np.float32], _Masks]:
    """Return for some rows the indices in `packed_masks`, the boxes and the masks that are not empty.

    The masks of a row follow each other, its main one first. With `boxes_only` there is only that, not
    unpacked.
    """
    main = rows + entry.first
    if boxes_only:
        return main, entry.boxes[rows], None
    others = [each for each in range(len(entry.thresholds)) if each != main_threshold(entry.thresholds)]
    indices = np.concatenate([main[:, None], *(rows[:, None] + len(entry) * each for each in others)], axis=1)
    masks = entry.unpack_masks(indices.ravel())
    if not others:
        return main, entry.boxes[rows], masks
    boxes = np.array([extents(mask) for mask in masks], np.float32).reshape(*indices.shape, 4)
    boxes[:, 0] = entry.boxes[rows]
    kept = boxes[..., 2] > boxes[..., 0]
    kept[:, 0] = True
    return indices[kept], boxes[kept], masks[kept.ravel()]


def _with_instances(
    image: AnnotatedImage, boxes: NDArray[np.float32], masks: _Masks, labels: NDArray[Any], *, ignored: bool
) -> AnnotatedImage:
    own: Any = image.masks
    return AnnotatedImage(
        image.image,
        np.concatenate([image.boxes, boxes]),
        np.concatenate([image.labels, labels.astype(np.int64)]),
        np.concatenate([image.ignored, np.full(len(labels), ignored)]),
        None if masks is None else np.concatenate([own, masks]),
    )


def _find_unlabelled(
    image: AnnotatedImage, boxes: NDArray[np.float32], masks: _Masks, max_iou: float
) -> NDArray[np.intp]:
    """Return the indices of instances that overlap no true one; the others would be learnt twice."""
    true = ~image.ignored
    if not len(boxes) or not true.any():
        return np.arange(len(boxes))
    found: Any
    labelled: Any
    if masks is None or image.masks is None:
        found, labelled = _to_xywh(boxes), _to_xywh(image.boxes[true])
    else:
        found, labelled = _to_rle(masks), _to_rle(image.masks[true])
    iou = coco_mask.iou(found, labelled, [0] * np.count_nonzero(true))
    return np.flatnonzero((iou < max_iou).all(axis=1))


def _to_xywh(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)


def _to_rle(masks: NDArray[np.uint8]) -> Any:
    # pycocotools reads columns; transposed masks have the same IoU and need no copy
    return coco_mask.encode(np.ascontiguousarray(masks).T)


def _first_id(reader: CacheReader) -> int:
    """Return the first id of a cache, from its path: row numbers mean nothing in another cache."""
    return _FIRST_ID + zlib.crc32(str(reader.path.resolve()).encode()) % _CACHES * _IDS_PER_CACHE


@TRANSFORMS.register_module()
class NoAnnotations(BaseTransform):
    """Take the place of `LoadAnnotations` for images without labels, or whose labels are not used."""

    removes_labels: ClassVar[bool] = True

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Give the image no instances."""
        height, width = results["img"].shape[:2]
        masks = np.zeros((0, height, width), np.uint8)
        empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
        return AnnotatedImage(results["img"], *empty, masks).write(results)


@TRANSFORMS.register_module()
class SplitTeacherInstances(BaseTransform):
    """Move the teacher's instances to `teacher_instances` of the data sample, after `MaskCells`.

    Args:
        cache: the file that they come from.
    """

    carries_teacher: ClassVar[bool] = True

    def __init__(self, cache: str) -> None:
        self.reader = CacheReader(cache)
        self._first_id = _first_id(self.reader)
        self._recent: OrderedDict[int, CachedInstances] = OrderedDict()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Look up scores and probabilities, and join the masks of several thresholds to `mask_cells`.

        An instance whose main mask was cropped away is dropped.
        """
        sample = results["data_samples"]
        ignored = sample.ignored_instances
        from_teacher = ignored.labels >= _FIRST_ID
        found = ignored[from_teacher]
        ids = (found.labels - self._first_id).numpy()
        self._check_cache(ids, found)
        images, thresholds = ids // _IDS_PER_IMAGE, self.reader.codec.thresholds
        entries = [self._entry(int(number)) for number in images]
        masks = [
            divmod(int(index), len(entry)) for index, entry in zip(ids % _IDS_PER_IMAGE, entries, strict=True)
        ]
        cells = found.mask_cells
        main: NDArray[np.int64] = np.arange(len(found))
        if len(thresholds) > 1:
            main = _main_masks(images, masks, main_threshold(thresholds))
            cells = _joined(cells, main, [threshold for threshold, _ in masks], thresholds)
        kept = np.flatnonzero(main == np.arange(len(found)))
        rows = [(entries[index], masks[index][1]) for index in kept]
        probabilities = [entry.probabilities[row] for entry, row in rows]
        sample.teacher_instances = InstanceData(
            bboxes=get_box_tensor(found.bboxes)[kept],
            mask_cells=cells[kept],
            scores=torch.tensor([float(entry.scores[row]) for entry, row in rows]),
            probabilities=torch.from_numpy(np.stack(probabilities)) if rows else torch.zeros(0, 0),
        )
        sample.ignored_instances = ignored[~from_teacher]
        return results

    def _check_cache(self, ids: NDArray[np.int64], found: InstanceData) -> None:
        if ((ids < 0) | (ids >= _IDS_PER_CACHE)).any():
            raise UserError(
                f"SplitTeacherInstances reads {self.reader.path}, and the image has instances of another "
                "cache. Give both transforms the same file; images of two caches cannot be mixed into one."
            )
        if "mask_cells" not in found:
            raise UserError("SplitTeacherInstances expects to follow MaskCells: found no mask_cells.")

    def _entry(self, number: int) -> CachedInstances:
        entry = self._recent.pop(number, None) or self.reader.by_number(number)
        self._recent[number] = entry
        if len(self._recent) > _RECENT_ENTRIES:
            self._recent.popitem(last=False)
        return entry


def _main_masks(
    images: NDArray[np.int64], masks: Sequence[tuple[int, int]], main_index: int
) -> NDArray[np.int64]:
    """Return for each (threshold, row) the position of the main mask of the same instance; -1 if it is gone.

    The masks of an instance follow its main one with ascending thresholds; a mosaic may show an image twice.
    """
    found = np.full(len(masks), -1)
    current, previous = -1, (-1, -1, -1)
    for position, (image, (threshold, row)) in enumerate(zip(images.tolist(), masks, strict=True)):
        if threshold == main_index:
            current, threshold = position, -1
        elif (image, row) != previous[:2] or threshold <= previous[2]:
            current = -1
        found[position], previous = current, (image, row, threshold)
    return found


def _joined(
    cells: torch.Tensor, main: NDArray[np.int64], indices: Sequence[int], thresholds: Sequence[float]
) -> torch.Tensor:
    """Add the weighted masks of each instance up at the position of its main one."""
    weighted = cells * torch.from_numpy(threshold_weights(thresholds)[list(indices)])[:, None, None]
    kept = np.flatnonzero(main >= 0)
    return torch.zeros_like(weighted).index_add_(0, torch.from_numpy(main[kept]), weighted[kept])
