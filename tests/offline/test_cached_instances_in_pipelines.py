"""What rides along and what does not: thresholds, pictures without an entry, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from ibkd_mm.datasets.transforms import IGNORE_LABEL, PasteInstances
from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedInstances, CacheWriter, LoadTeacherInstances
from ibkd_mm.registry import TRANSFORMS
from ibkd_mm.yolov10.truth import collect_truth

CROWD = 3
SCORES = [0.2, 0.35, 0.9, 0.6]


@pytest.fixture
def seen(tmp_path: Path, identity: dict[str, Any]) -> Path:
    """Let a teacher see four squares in picture 5, the last two as one instance of its ground truth each."""
    masks = np.zeros((4, 40, 60), np.uint8)
    for index, mask in enumerate(masks):
        mask[4:12, 15 * index : 15 * index + 8] = 1
    boxes = np.array([[15 * index, 4, 15 * index + 8, 12] for index in range(4)], np.float32)
    odds = np.eye(8, dtype=np.float32)[[0, 1, 2, 7]] * 0.9
    path = tmp_path / "seen.sqlite"
    with CacheWriter(path, identity) as writer:
        writer.write([("5", CachedInstances.of(boxes, np.array(SCORES, np.float32), odds, masks, 2))])
    return path


def picture(key: int = 5) -> dict[str, Any]:
    """Load a picture with two instances, of which the second is a crowd."""
    masks = np.zeros((2, 40, 60), np.uint8)
    masks[0, 20:30, 20:30] = masks[1, 30:, 40:] = 1
    boxes = np.array([[20, 20, 30, 30], [40, 30, 60, 40]], np.float32)
    made = AnnotatedImage(
        np.zeros((40, 60, 3), np.uint8), boxes, np.array([6, CROWD]), np.array([False, True]), masks
    )
    return made.write({"img_id": key, "ori_shape": (40, 60)})


def through(results: dict[str, Any], *transforms: Any) -> Any:
    with DefaultScope.overwrite_default_scope("mmdet"):
        for each in transforms:
            results = TRANSFORMS.build(each)(results)
    return results["data_samples"]


def loading(cache: Path, **settings: Any) -> dict[str, Any]:
    return {"type": "ibkd_mm.LoadTeacherInstances", "cache": str(cache), **settings}


def splitting(cache: Path) -> dict[str, Any]:
    return {"type": "ibkd_mm.SplitTeacherInstances", "cache": str(cache)}


PACK, CELLS = {"type": "PackDetInputs"}, {"type": "ibkd_mm.MaskCells"}


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, [0, 1, 2, 3]), (0.3, [1, 2, 3]), (0.95, [])])
def test_those_above_the_threshold_ride_and_the_rest_is_as_it_was(
    seen: Path, threshold: float, kept: list[int]
) -> None:
    sample = through(picture(), loading(seen, score_thr=threshold), PACK, CELLS, splitting(seen))
    assert sample.gt_instances.labels.tolist() == [6]
    assert sample.ignored_instances.labels.tolist() == [CROWD]
    assert sample.ignored_instances.mask_cells.sum() == 200
    riders = sample.teacher_instances
    assert riders.scores == pytest.approx([SCORES[row] for row in kept], abs=1e-4)
    assert riders.bboxes.tolist() == [[15 * row, 4, 15 * row + 8, 12] for row in kept]
    assert riders.mask_cells.shape == (len(kept), 10, 15)
    if kept:
        assert riders.probabilities.argmax(1).tolist() == [[0, 1, 2, 7][row] for row in kept]
        assert riders.mask_cells.sum((1, 2)).tolist() == [64] * len(kept)


def test_what_the_teacher_is_sure_of_may_be_taken_for_true(seen: Path) -> None:
    nothing = [
        {"type": "ibkd_mm.NoAnnotations"},
        loading(seen, pseudo_label_thr=0.5),
        PACK,
        CELLS,
        splitting(seen),
    ]
    sample = through(picture(), *nothing)
    assert sample.gt_instances.labels.tolist() == [2, 7]
    assert sample.gt_instances.bboxes.tensor[:, 0].tolist() == [30, 45]
    assert sample.gt_instances.mask_cells.sum((1, 2)).tolist() == [64, 64]
    assert len(sample.teacher_instances) == 3
    assert len(sample.ignored_instances) == 0


def test_what_the_teacher_is_less_sure_of_is_in_doubt_through_the_pipeline(seen: Path) -> None:
    flip = {"type": "RandomFlip", "prob": 1.0}
    load = loading(seen, pseudo_label_thr=0.5, ignore_thr=0.3)
    nothing = [{"type": "ibkd_mm.NoAnnotations"}, load, flip, PACK, CELLS, splitting(seen)]
    sample = through(picture(), *nothing)
    assert sample.gt_instances.labels.tolist() == [2, 7]
    doubted = sample.ignored_instances
    assert doubted.labels.tolist() == [IGNORE_LABEL]
    assert doubted.bboxes.tensor.tolist() == [[60 - 15 - 8, 4, 60 - 15, 12]]
    assert len(sample.teacher_instances) == 3  # it rides as before
    truth = collect_truth([sample, sample], torch.device("cpu"), 4, (10, 15))
    assert truth.ignore_regions is not None
    assert truth.ignore_regions.image.tolist() == [0, 1]
    assert truth.ignore_regions.boxes.tolist() == 2 * doubted.bboxes.tensor.tolist()


@pytest.mark.parametrize("masks", [True, False])
def test_what_overlaps_a_true_one_or_one_that_is_taken_for_true_is_not_in_doubt(
    tmp_path: Path, identity: dict[str, Any], masks: bool
) -> None:
    """Of the likeliest a half, of one that is labelled a half, of neither anything."""
    boxes = np.array([[0, 0, 20, 20], [0, 0, 20, 10], [30, 0, 40, 20], [50, 0, 60, 20]], np.float32)
    drawn = np.zeros((5, 40, 60), np.uint8)
    for mask, (left, top, right, bottom) in zip(drawn, [*boxes.astype(int), (30, 0, 50, 20)], strict=True):
        mask[top:bottom, left:right] = 1
    path, scores = tmp_path / "some.sqlite", np.array([0.9, 0.5, 0.5, 0.5], np.float32)
    odds = np.eye(8, dtype=np.float32)[:4] * 0.9
    with CacheWriter(path, identity) as writer:
        writer.write([("5", CachedInstances.of(boxes, scores, odds, drawn[:4], 2))])
    own = np.array([[30, 0, 50, 20]], np.float32), np.array([6]), np.array([False])
    shown = AnnotatedImage(np.zeros((40, 60, 3), np.uint8), *own, drawn[4:] if masks else None)
    found = LoadTeacherInstances(str(path), pseudo_label_thr=0.8, ignore_thr=0.3)(shown.write({"img_id": 5}))
    assert found is not None
    labels, ignored = found["gt_bboxes_labels"], found["gt_ignore_flags"]
    assert labels[~ignored].tolist() == [6, 0]
    assert (labels == IGNORE_LABEL).nonzero()[0].tolist() == [len(labels) - 1]
    assert found["gt_bboxes"].tensor[-1].tolist() == [50, 0, 60, 20]
    assert ("gt_masks" in found) is masks


@pytest.mark.parametrize("truth", [None, 0.3, 0.2])
def test_doubt_begins_below_truth(seen: Path, truth: float | None) -> None:
    with pytest.raises(UserError, match=f"found ignore_thr=0.3 and pseudo_label_thr={truth}"):
        LoadTeacherInstances(str(seen), pseudo_label_thr=truth, ignore_thr=0.3)


def test_a_picture_that_nobody_saw_or_labelled_passes(seen: Path) -> None:
    sample = through(picture(key=6), loading(seen), PACK, CELLS, splitting(seen))
    assert sample.gt_instances.labels.tolist() == [6]
    assert sample.ignored_instances.labels.tolist() == [CROWD]
    assert len(sample.teacher_instances) == 0
    assert sample.teacher_instances.mask_cells.shape == (0, 10, 15)
    bare = {"img": np.zeros((40, 60, 3), np.uint8), "img_id": 6}
    nothing = through(bare, {"type": "ibkd_mm.NoAnnotations"}, loading(seen), PACK, CELLS, splitting(seen))
    assert [len(nothing.gt_instances), len(nothing.ignored_instances), len(nothing.teacher_instances)] == [
        0
    ] * 3
    assert nothing.gt_instances.mask_cells.shape == (0, 10, 15)
    assert nothing.gt_instances.bboxes.tensor.shape == (0, 4)


def test_in_a_mosaic_only_the_pictures_that_were_seen_have_riders(seen: Path) -> None:
    load = LoadTeacherInstances(str(seen))
    mosaic = {"type": "ibkd_mm.MosaicAffine", "size": (120, 80), "scale": 0.0}
    found: list[int] = []
    for _ in range(20):
        mixed = {**picture(8), "mix_results": [picture(6), load(picture()), picture(7)]}
        sample = through(mixed, mosaic, PACK, CELLS, splitting(seen))
        assert len(sample.teacher_instances) <= 3
        assert set(sample.ignored_instances.labels.tolist()) <= {CROWD}
        found += sample.teacher_instances.scores.mul(100).round().int().tolist()
    assert set(found) == {35, 60, 90}


@pytest.mark.parametrize("chosen", [0, 1])
def test_a_pasted_instance_brings_what_was_seen_of_it(
    seen: Path, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third rider coincides with a true instance, all but a column; the others stay where they are."""
    source = picture()
    source["gt_masks"].masks[0] = 0
    source["gt_masks"].masks[0, 4:12, 31:38] = 1
    loaded = LoadTeacherInstances(str(seen))(source)
    monkeypatch.setattr(PasteInstances, "_choose", lambda *_: np.arange(chosen))
    mixed = {**picture(6), "mix_results": [loaded]}
    sample = through(mixed, {"type": "ibkd_mm.PasteInstances"}, PACK, CELLS, splitting(seen))
    assert sample.gt_instances.labels.tolist() == [6] * (1 + chosen)
    assert sample.ignored_instances.labels.tolist() == [CROWD]  # of the picture below
    assert len(sample.teacher_instances) == chosen
    if chosen:
        assert sample.teacher_instances.probabilities.argmax(1).tolist() == [2]
        assert sample.teacher_instances.bboxes.tolist() == [[31, 4, 38, 12]]
        assert torch.equal(sample.teacher_instances.mask_cells[0], sample.gt_instances.mask_cells[1])


def test_a_picture_of_another_size_is_refused(seen: Path) -> None:
    smaller = AnnotatedImage.from_results(picture())
    masks = smaller.masks[:, :30]  # type: ignore[index]
    cut = AnnotatedImage(smaller.image[:30], smaller.boxes, smaller.labels, smaller.ignored, masks)
    with pytest.raises(UserError, match=r"image 5 with size \(40, 60\), and here it is \(30, 60\)"):
        LoadTeacherInstances(str(seen))(cut.write({"img_id": 5}))


def test_riders_of_another_cache_are_refused(seen: Path, identity: dict[str, Any]) -> None:
    other = seen.with_name("other.sqlite")
    CacheWriter(other, identity).close()
    with pytest.raises(
        UserError, match=r"reads .*other.sqlite, and the image has instances of another cache"
    ):
        through(picture(), loading(seen), PACK, CELLS, splitting(other))
    with pytest.raises(UserError, match="MaskCells"):
        through(picture(), loading(seen), PACK, splitting(seen))
    with pytest.raises(UserError, match=r"There is no teacher's cache .*none.sqlite. Write it: ibkd cache"):
        LoadTeacherInstances(str(seen.with_name("none.sqlite")))
