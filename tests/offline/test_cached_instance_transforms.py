"""A cache filled with the ground truth gives the ground truth back, whatever a pipeline does to it.

And what the teacher is sure of is learnt once: not beside the same true one, and not as background.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.offline import CachedInstances, CacheWriter, LoadTeacherInstances

LOAD = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}]
END = [{"type": "PackDetInputs"}, {"type": "ibkd_mm.MaskCells"}]
AFFINE = {"type": "ibkd_mm.MosaicAffine", "size": (64, 64), "degrees": 15.0, "shear": 5.0}
UPRIGHT = {"type": "ibkd_mm.MosaicAffine", "size": (96, 64), "prob": 0.5}
PASTE = {"type": "ibkd_mm.PasteInstances", "prob": 0.9}
FLIP = {"type": "RandomFlip", "prob": [0.25] * 3, "direction": ["horizontal", "vertical", "diagonal"]}
JITTER = {"type": "ibkd_mm.HSVJitter"}
CROP = {"type": "RandomCrop", "crop_size": (40, 36), "allow_negative_crop": True}
ALONE: dict[str, list[Any]] = {
    "nothing": [],
    "flips": [FLIP],
    "resize": [{"type": "Resize", "scale": (100, 80), "keep_ratio": False}],
    "crop": [CROP],
    "all": [
        {"type": "Resize", "scale": (90, 70), "keep_ratio": True},
        {**CROP, "recompute_bbox": True},
        FLIP,
    ],
}
MIXED: dict[str, list[list[Any]]] = {
    "upright mosaic": [[UPRIGHT]],
    "turned mosaic": [[AFFINE]],
    "pasted": [[AFFINE], [PASTE, {"type": "Compose", "transforms": [JITTER, FLIP]}]],
}


def drawn(samples: Any, index: int) -> Any:
    """Read a sample as it would be drawn with a seed."""
    random.seed(index)
    np.random.seed(index)
    return samples[index]["data_samples"]


def check_equal(found: InstanceData, expected: InstanceData, labels: torch.Tensor) -> None:
    assert len(found) == len(expected)
    assert torch.equal(labels, expected.labels)
    assert torch.equal(found.mask_cells, expected.mask_cells)
    boxes = [getattr(each.bboxes, "tensor", each.bboxes) for each in (found, expected)]
    torch.testing.assert_close(*boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*ALONE, *MIXED])
def test_what_the_teacher_saw_is_warped_as_the_ground_truth_is(
    name: str, dataset: Callable[..., Any], truth_cache: Path
) -> None:
    loading = {"type": "ibkd_mm.LoadTeacherInstances", "cache": str(truth_cache)}
    split = {"type": "ibkd_mm.SplitTeacherInstances", "cache": str(truth_cache)}
    if name in ALONE:
        plain = dataset([*LOAD, *ALONE[name], *END])
        cached = dataset([*LOAD, loading, *ALONE[name], *END, split])
    else:
        *first, last = MIXED[name]
        plain = dataset(LOAD, *first, [*last, *END])
        cached = dataset([*LOAD, loading], *first, [*last, *END, split])
    learnt = crowds = 0
    for index in range(200):
        expected, found = drawn(plain, index), drawn(cached, index)
        for kind in ("gt_instances", "ignored_instances"):  # as if nothing had ridden along
            own, other = getattr(found, kind), getattr(expected, kind)
            check_equal(own, other, own.labels)
        seen, truth = found.teacher_instances, found.gt_instances
        check_equal(seen, truth, seen.probabilities.argmax(1) if len(seen) else truth.labels)
        assert len(seen) == len(seen.probabilities) == len(seen.scores)
        if name in ALONE:  # each with what was thought of it, and of no other
            place = (seen.scores - 0.5 - (index + 1) % 89 / 200) * 2000
            best = seen.probabilities.amax(1) if len(seen) else place
            torch.testing.assert_close(best, 0.5 + place / 100, rtol=0, atol=2e-3)
        learnt, crowds = learnt + len(seen), crowds + len(found.ignored_instances)
    assert learnt > 300
    assert crowds > 30


def rectangles(*corners: tuple[int, int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw masks of 40 x 60, of left, top, right and bottom; give their boxes, too."""
    masks = np.zeros((len(corners), 40, 60), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = 1
    return np.array(corners, np.float32).reshape(-1, 4), masks


def loaded(
    key: str, boxes: NDArray[Any], masks: NDArray[Any] | None, ignored: NDArray[Any] | None = None
) -> dict[str, Any]:
    """Load a picture whose instances are of class 6."""
    crowds = np.zeros(len(boxes), bool) if ignored is None else ignored
    picture = AnnotatedImage(np.zeros((40, 60, 3), np.uint8), boxes, np.full(len(boxes), 6), crowds, masks)
    return picture.write({"img_id": key})


@pytest.fixture
def seen(tmp_path: Path, identity: dict[str, Any]) -> Callable[..., Path]:
    """Let a teacher be sure of some instances in the picture a.png, of classes 0, 1, 2 and so on."""

    def write(boxes: NDArray[Any], masks: NDArray[Any]) -> Path:
        path = tmp_path / "seen.sqlite"
        odds = np.eye(8, dtype=np.float32)[: len(boxes)] * 0.9
        entry = CachedInstances.of(boxes, np.full(len(boxes), 0.9, np.float32), odds, masks, 2)
        with CacheWriter(path, identity) as writer:
            writer.write([("a.png", entry)])
        return path

    return write


def learnt_of(transform: LoadTeacherInstances, results: dict[str, Any]) -> list[int]:
    found = transform(results)
    assert found is not None
    return found["gt_bboxes_labels"][~found["gt_ignore_flags"]].tolist()


@pytest.mark.parametrize("wrapping", ["alone", "joined", "mixed"])
def test_a_picture_that_nobody_labelled_or_saw_is_replaced_by_another(
    wrapping: str, seen: Callable, tmp_path: Path
) -> None:
    """All of it would be learnt as background."""
    cache = str(seen(*rectangles((4, 4, 12, 12), (30, 10, 50, 30))))
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((40, 60, 3), np.uint8))
    loading = {"type": "ibkd_mm.LoadTeacherInstances", "cache": cache, "pseudo_label_thr": 0.5}
    split = {"type": "ibkd_mm.SplitTeacherInstances", "cache": cache}
    load, end = [LOAD[0], {"type": "ibkd_mm.NoAnnotations"}, loading], [*END, split]
    end[0] = {"type": "PackDetInputs", "meta_keys": ("img_id",)}
    folder: dict[str, Any] = {"type": "ibkd_mm.ImageFolder", "data_root": str(tmp_path)}
    described = {**folder, "pipeline": [*load, *end]}
    if wrapping == "joined":
        often = {"type": "RepeatDataset", "times": 2, "dataset": described}
        described = {"type": "ConcatDataset", "datasets": [described, often]}
    elif wrapping == "mixed":
        inner = {**folder, "pipeline": load}
        described = {"type": "MultiImageMixDataset", "dataset": inner, "pipeline": [PASTE, *end]}
    with DefaultScope.overwrite_default_scope("mmdet"):
        samples = DATASETS.build(described)
    assert len(samples) == {"alone": 3, "joined": 9, "mixed": 3}[wrapping]
    for index in range(len(samples)):
        sample = drawn(samples, index)
        assert sample.img_id == "a.png"
        assert {0, 1} == set(sample.gt_instances.labels.tolist())


def test_a_picture_that_nobody_saw_keeps_its_own_truth(seen: Callable) -> None:
    cache = str(seen(*rectangles((4, 4, 12, 12))))
    trusting, doubting = LoadTeacherInstances(cache, pseudo_label_thr=0.5), LoadTeacherInstances(cache)
    own = rectangles((20, 20, 30, 30))
    assert learnt_of(trusting, loaded("b.png", *own)) == [6]
    assert learnt_of(trusting, loaded("b.png", *own, np.array([True]))) == []  # a crowd is a label
    assert learnt_of(doubting, loaded("b.png", *rectangles())) == []
    assert trusting(loaded("b.png", *rectangles())) is None
    assert learnt_of(trusting, loaded("a.png", *rectangles())) == [0]


def test_what_is_labelled_already_is_not_added_again(seen: Callable) -> None:
    """Of the true one's 100 pixels the first has all, the second a half of its own 50, the third none."""
    squares = rectangles((20, 20, 30, 30), (20, 20, 30, 25), (40, 20, 50, 30))
    cache = str(seen(*squares))
    true = rectangles((20, 20, 30, 30), (40, 20, 50, 30))
    crowd = np.array([False, True])
    for most, added in ((0.3, [2]), (0.5, [2]), (0.51, [1, 2]), (1.01, [0, 1, 2])):
        transform = LoadTeacherInstances(cache, pseudo_label_thr=0.5, max_iou=most)
        assert learnt_of(transform, loaded("a.png", *true, crowd)) == [6, *added]
    found = LoadTeacherInstances(cache, pseudo_label_thr=0.5)(loaded("a.png", *true, crowd))
    assert found is not None
    assert found["gt_ignore_flags"].tolist() == [False, True, True, True, True, False]  # all three ride
    assert np.array_equal(found["gt_masks"].masks[-1], squares[1][2])
    nobody = np.array([True, True])
    assert learnt_of(LoadTeacherInstances(cache, pseudo_label_thr=0.5), loaded("a.png", *true, nobody)) == [
        0,
        1,
        2,
    ]


def test_masks_are_compared_and_boxes_where_there_are_none(seen: Callable) -> None:
    boxes, masks = rectangles((20, 20, 30, 30))
    upper = np.triu(np.ones((10, 10), np.uint8), 4)  # 21 pixels, in a box of its own size here
    masks[0, 20:30, 20:30] = upper
    transform = LoadTeacherInstances(str(seen(boxes, masks)), pseudo_label_thr=0.5)
    other = masks.copy()
    other[0, 20:30, 20:30] = upper.T
    assert learnt_of(transform, loaded("a.png", boxes, other)) == [6, 0]
    assert learnt_of(transform, loaded("a.png", boxes, masks)) == [6]
    assert learnt_of(transform, loaded("a.png", boxes, None)) == [6]
    assert learnt_of(transform, loaded("a.png", boxes + np.array([10, 0, 10, 0]), None)) == [6, 0]


def test_overlaps_are_those_of_the_pixels(seen: Callable, entry: Callable[..., CachedInstances]) -> None:
    first, second = entry(1, 8, (40, 60)), entry(2, 8, (40, 60))
    cache = str(seen(first.boxes, first.masks))
    both = np.einsum("khw,thw->kt", first.masks.astype(int), second.masks.astype(int))
    areas = (each.masks.sum((1, 2), dtype=int) for each in (first, second))
    iou = both / (np.add.outer(*areas) - both)
    assert 0 < np.count_nonzero(iou) < iou.size
    counts = set()
    for most in (0.001, 0.02, 0.05, 0.1, 0.2):
        transform = LoadTeacherInstances(cache, pseudo_label_thr=0.5, max_iou=most)
        expected = np.flatnonzero(iou.max(1) < most).tolist()
        assert learnt_of(transform, loaded("a.png", second.boxes, second.masks)) == [6] * 8 + expected
        counts.add(len(expected))
    assert len(counts) > 2


def test_of_a_cache_of_the_truth_nothing_is_added_to_it(
    dataset: Callable[..., Any], truth_cache: Path
) -> None:
    loading = {"type": "ibkd_mm.LoadTeacherInstances", "cache": str(truth_cache), "pseudo_label_thr": 0.4}
    plain, cached = dataset([*LOAD, *END]), dataset([*LOAD, loading, *END])
    for index in range(30):
        expected, found = (
            plain[index]["data_samples"].gt_instances,
            cached[index]["data_samples"].gt_instances,
        )
        check_equal(found, expected, found.labels)
