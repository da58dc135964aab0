"""A teacher's instances in a training pipeline: they ride along as ignored ones and come apart at its end.

Whatever moves, mirrors, cuts or mixes pictures treats ignored instances as it treats true ones, so the same
code warps both. A rider's label says which one of which picture it is; nothing learns from ignored labels.
A soft mask rides as some hard ones, cut at levels, which are brought together again at the end.
"""

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import autocast_box_type, get_box_tensor
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ibkd_mm.datasets.transforms.annotated_image import IGNORE_LABEL, Picture
from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.errors import UserError
from ibkd_mm.offline.instance_codec import MOST_LEVELS, CachedEntry, main_threshold, threshold_weights
from ibkd_mm.offline.store import CacheReader
from ibkd_mm.registry import TRANSFORMS

_IN_A_PICTURE = (1 << 12) * MOST_LEVELS
"""More masks than any picture has: of fewer than 4096 instances, at all levels."""
_FIRST = IGNORE_LABEL + 1
"""More than there are classes: the label of the first rider."""
_IN_A_FILE = 1 << 44
"""More than all the pictures of a file have."""
_FILES = 1 << 15
_KEPT = 16
_Masks = NDArray[np.uint8] | None


@TRANSFORMS.register_module()
class LoadTeacherInstances(BaseTransform):
    """Let what a teacher saw in a picture ride with its true instances, behind `LoadAnnotations`.

    A picture that the cache lacks passes as it is. With `pseudo_label_thr` one without instances does not: it may
    show what nobody has looked for, and the data set draws another in its place.

    Args:
        cache: the file.
        score_thr: what an instance's score must exceed.
        pseudo_label_thr: above which score an instance is also taken for true, as in pictures that nobody labelled;
            None for no instance.
        ignore_thr: above which score one that is not is in doubt: what a YOLOv10 finds in its box is neither
            right nor wrong. None to take it for background.
        max_iou: IoU of its mask with a true one, or of its box where no masks are loaded, from which
            on it is taken for that one, and is neither true nor in doubt.
    """

    carries_teacher = True
    """Handles only the teacher's instances: images and ground truth stay the same."""

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
                "Expected a ignore_thr below the pseudo_label_thr of LoadTeacherInstances, found "
                f"ignore_thr={ignore_thr} and pseudo_label_thr={pseudo_label_thr}."
            )
        self._first = _first_of(self.reader)

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add the riders; None for a picture of which neither labels nor the teacher say what it shows."""
        found = self.reader.find(str(results["img_id"]))
        if found is None:
            unknown = self.pseudo_label_thr is not None and not len(results["gt_bboxes"])
            return None if unknown else results
        number, entry = found
        picture = Picture.of(results)
        _check_size(self.reader, entry, picture, str(results["img_id"]))
        alone = picture.masks is None
        rows = np.flatnonzero(entry.scores > self.score_thr)
        riders, boxes, masks = _riders(entry, rows, alone=alone)
        labels = self._first + number * _IN_A_PICTURE + riders
        added = _with(picture, boxes, masks, labels, ignored=True)
        if self.pseudo_label_thr is not None:
            sure = entry.scores > self.pseudo_label_thr
            added = self._with_new(added, entry, sure, doubted=False)
            if self.ignore_thr is not None:
                added = self._with_new(added, entry, (entry.scores > self.ignore_thr) & ~sure, doubted=True)
        return added.write(results)

    def _with_new(
        self, picture: Picture, entry: CachedEntry, chosen: NDArray[np.bool_], *, doubted: bool
    ) -> Picture:
        """Add those that overlap no true instance, as true or as in doubt."""
        rows = np.flatnonzero(chosen)
        boxes = entry.boxes[rows]
        masks = None if picture.masks is None else entry.restored(rows + entry.first)
        new = _unlabelled(picture, boxes, masks, self.max_iou)
        labels = np.full(len(new), IGNORE_LABEL) if doubted else entry.top_classes[rows[new], 0]
        return _with(picture, boxes[new], None if masks is None else masks[new], labels, ignored=doubted)


def _riders(
    entry: CachedEntry, rows: NDArray[Any], *, alone: bool
) -> tuple[NDArray[Any], NDArray[np.float32], _Masks]:
    """Choose masks of some rows, of each its main one first; give their places, their boxes and them.

    All that are not empty; with `alone`, where masks are not asked for, the main ones.
    """
    main = rows + entry.first
    if alone:
        return main, entry.boxes[rows], None
    others = [each for each in range(len(entry.levels)) if each != main_threshold(entry.levels)]
    chosen = np.concatenate([main[:, None], *(rows[:, None] + len(entry) * each for each in others)], axis=1)
    masks = entry.restored(chosen.ravel())
    if not others:
        return main, entry.boxes[rows], masks
    boxes = np.array([extents(mask) for mask in masks], np.float32).reshape(*chosen.shape, 4)
    boxes[:, 0] = entry.boxes[rows]
    there = boxes[..., 2] > boxes[..., 0]
    there[:, 0] = True
    return chosen[there], boxes[there], masks[there.ravel()]


def _with(
    picture: Picture, boxes: NDArray[np.float32], masks: _Masks, labels: NDArray[Any], *, ignored: bool
) -> Picture:
    own: Any = picture.masks
    return Picture(
        picture.image,
        np.concatenate([picture.boxes, boxes]),
        np.concatenate([picture.labels, labels.astype(np.int64)]),
        np.concatenate([picture.ignored, np.full(len(labels), ignored)]),
        None if masks is None else np.concatenate([own, masks]),
    )


def _unlabelled(
    picture: Picture, boxes: NDArray[np.float32], masks: _Masks, max_iou: float
) -> NDArray[np.intp]:
    """Choose those that overlap no true instance: others would be learnt twice."""
    true = ~picture.ignored
    if not len(boxes) or not true.any():
        return np.arange(len(boxes))
    seen: Any
    real: Any
    if masks is None or picture.masks is None:
        seen, real = _places(boxes), _places(picture.boxes[true])
    else:
        seen, real = _runs(masks), _runs(picture.masks[true])
    iou = coco_mask.iou(seen, real, [0] * np.count_nonzero(true))
    return np.flatnonzero((iou < max_iou).all(axis=1))


def _places(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give left, top, width and height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)


def _runs(masks: NDArray[np.uint8]) -> Any:
    # pycocotools runs down columns: turned over, masks overlap as much and need not be copied
    return coco_mask.encode(np.ascontiguousarray(masks).T)


def _first_of(reader: CacheReader) -> int:
    """Give the label of the first rider of a file, by its path: numbers of one mean nothing in another."""
    return _FIRST + zlib.crc32(str(reader.path.resolve()).encode()) % _FILES * _IN_A_FILE


def _check_size(reader: CacheReader, entry: CachedEntry, picture: Picture, key: str) -> None:
    own, cached = picture.image.shape[:2], (entry.height, entry.width)
    if own != cached:
        raise UserError(
            f"The teacher saw picture {key} at {cached}, and it is {own} here ({reader.path}). Put "
            "LoadTeacherInstances directly behind LoadAnnotations, or write the cache anew."
        )


@TRANSFORMS.register_module()
class NoAnnotations(BaseTransform):
    """Stand where `LoadAnnotations` would, for pictures without labels or whose labels are not used."""

    removes_labels = True
    """Images behind this transform have no ground truth."""

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Give the picture no instances."""
        height, width = results["img"].shape[:2]
        nothing = np.zeros((0, height, width), np.uint8)
        empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
        return Picture(results["img"], *empty, nothing).write(results)


@TRANSFORMS.register_module()
class SplitTeacherInstances(BaseTransform):
    """Take the riders out again, as `teacher_instances` of the sample; behind `MaskCells`.

    Args:
        cache: the file that they are of.
    """

    carries_teacher = True
    """Handles only the teacher's instances: images and ground truth stay the same."""

    def __init__(self, cache: str) -> None:
        self.reader = CacheReader(cache)
        self._first = _first_of(self.reader)
        self._recent: OrderedDict[int, CachedEntry] = OrderedDict()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Look them up: what the teacher thought of them has not been through the pipeline.

        Of several levels `mask_cells` are the weighted mean, in fractions of pixels; of what was left out at
        the main level nothing is left.
        """
        sample = results["data_samples"]
        ignored = sample.ignored_instances
        riding = ignored.labels >= _FIRST
        riders = ignored[riding]
        numbers = (riders.labels - self._first).numpy()
        self._check_own(numbers, riders)
        seen = [self._entry(int(number)) for number in numbers // _IN_A_PICTURE]
        places = [
            divmod(int(at), len(entry)) for at, entry in zip(numbers % _IN_A_PICTURE, seen, strict=True)
        ]
        cells = riders.mask_cells
        leader: NDArray[np.int64] = np.arange(len(riders))
        if len(self.reader.levels) > 1:
            leader = _leaders(numbers // _IN_A_PICTURE, places, main_threshold(self.reader.levels))
            cells = _joined(cells, leader, [level for level, _ in places], self.reader.levels)
        leading = np.flatnonzero(leader == np.arange(len(riders)))
        pairs = [(seen[at], places[at][1]) for at in leading]
        sample.teacher_instances = InstanceData(
            bboxes=get_box_tensor(riders.bboxes)[leading],
            mask_cells=cells[leading],
            scores=torch.tensor([float(entry.scores[row]) for entry, row in pairs]),
            probabilities=_stacked([entry.probabilities[row] for entry, row in pairs]),
        )
        sample.ignored_instances = ignored[~riding]
        return results

    def _check_own(self, numbers: NDArray[np.int64], riders: InstanceData) -> None:
        if ((numbers < 0) | (numbers >= _IN_A_FILE)).any():
            raise UserError(
                f"SplitTeacherInstances looks into {self.reader.path}, and instances of another cache ride "
                "along. Give both transforms the same; pictures of two caches cannot be mixed into one."
            )
        if "mask_cells" not in riders:
            raise UserError("SplitTeacherInstances expects to stand behind MaskCells: found no mask_cells.")

    def _entry(self, number: int) -> CachedEntry:
        entry = self._recent.pop(number, None) or self.reader.by_number(number)
        self._recent[number] = entry
        if len(self._recent) > _KEPT:
            self._recent.popitem(last=False)
        return entry


def _leaders(pictures: NDArray[np.int64], places: Sequence[tuple[int, int]], main: int) -> NDArray[np.int64]:
    """Find for each rider the one of its row's main level: itself, the one it stands behind, or -1 for none.

    A row's levels stand behind its main one and rise, so a picture may be in a mosaic twice.
    """
    leader = np.full(len(places), -1)
    own, before = -1, (-1, -1, -1)
    for at, (picture, (level, row)) in enumerate(zip(pictures.tolist(), places, strict=True)):
        if level == main:
            own, level = at, -1
        elif (picture, row) != before[:2] or level <= before[2]:
            own = -1
        leader[at], before = own, (picture, row, level)
    return leader


def _joined(
    cells: torch.Tensor, leader: NDArray[np.int64], riders: Sequence[int], levels: Sequence[float]
) -> torch.Tensor:
    """Add to those of each main level what is left of its row's others, weighted."""
    weighted = cells * torch.from_numpy(threshold_weights(levels)[list(riders)])[:, None, None]
    led = np.flatnonzero(leader >= 0)
    return torch.zeros_like(weighted).index_add_(0, torch.from_numpy(leader[led]), weighted[led])


def _stacked(rows: list[NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, 0)
