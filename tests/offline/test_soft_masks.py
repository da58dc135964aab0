"""A soft mask is hard ones, cut at levels: each is warped as any is, and together they are soft again."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.teacher_caches import entry_of, pack, unpack
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from scipy import ndimage

from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances, from_cached
from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter
from ibkd_mm.offline.instance_codec import mask_thresholds_of, threshold_weights
from ibkd_mm.registry import TRANSFORMS

LEVELS = (0.2, 0.5, 0.9)
WEIGHTS = [0.35, 0.35, 0.3]
"""From 0 to the middle of the first two, to that of the last two, and to 1."""
PICTURES, AT_MOST = 80, 16
LOAD = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}]
END = [{"type": "PackDetInputs"}, {"type": "ibkd_mm.MaskCells"}]
FLIP = {"type": "RandomFlip", "prob": [0.25] * 3, "direction": ["horizontal", "vertical", "diagonal"]}
CROP = {"type": "RandomCrop", "crop_size": (40, 36), "allow_negative_crop": True, "recompute_bbox": True}
AFFINE = {"type": "ibkd_mm.MosaicAffine", "size": (64, 64), "degrees": 15.0, "shear": 5.0}
PASTE = {"type": "ibkd_mm.PasteInstances", "prob": 0.9}
PIPELINES: dict[str, tuple[list[Any], list[list[Any]]]] = {
    "flips": ([FLIP], []),
    "crop": ([CROP], []),
    "mosaic": ([], [[AFFINE]]),
    "pasted": ([], [[AFFINE], [PASTE, FLIP]]),
}


@pytest.mark.parametrize(
    ("levels", "weights"),
    [
        ((0.5,), [1.0]),
        ((0.7,), [1.0]),
        ((0.25, 0.5, 0.75), [0.375, 0.25, 0.375]),
        (LEVELS, WEIGHTS),
        ((0.1, 0.5, 0.6, 0.62), [0.3, 0.25, 0.06, 0.39]),
    ],
)
def test_between_two_levels_a_probability_is_their_middle(
    levels: tuple[float, ...], weights: list[float]
) -> None:
    assert threshold_weights(levels) == pytest.approx(np.array(weights))
    reached = np.cumsum(threshold_weights(levels))
    assert reached[:-1] == pytest.approx([(a + b) / 2 for a, b in pairwise(levels)])
    assert reached[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong",
    [
        *[(), (0.0, 0.5), (0.5, 1.0), (-0.5,), (0.5, 0.5), (0.75, 0.5), (float("nan"),)],
        *[0.5, "0.5", (0.25, "0.5"), (1,), None, tuple(np.linspace(0.1, 0.9, 17).tolist())],
    ],
)
def test_wrong_levels_are_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"mask_thresholds") as error:
        mask_thresholds_of({"mask_thresholds": wrong})
    assert f"found {wrong!r}." in str(error.value)


def layered(sample: dict[str, Any]) -> list[CachedInstances]:
    """Let a teacher be less sure about the edges of what is annotated; then one entry of each level alone."""
    picture = AnnotatedImage.from_results(sample)
    assert picture.masks is not None
    hard = picture.masks[~picture.ignored]
    count, beside = len(hard), np.ones((1, 5, 5))
    outer, inner = ndimage.binary_dilation(hard, beside), ndimage.binary_erosion(hard, beside)
    masks = np.stack([outer, hard, inner]).astype(np.uint8)
    # no two instances of the data set have the same
    scores = (0.4 + (sample["img_id"] * AT_MOST + np.arange(count)) / 8000).astype(np.float32)
    odds = np.full((count, 8), 0.1, np.float32)

    def entry(pixels: NDArray[np.uint8], of: NDArray[np.uint8], levels: tuple[float, ...]) -> CachedInstances:
        boxes = np.array([extents(mask) for mask in of], np.float32).reshape(-1, 4)
        return CachedInstances.of(boxes, scores, odds, pixels, 5, levels)

    return [entry(masks, hard, LEVELS), *(entry(each, each, (0.5,)) for each in masks)]


@pytest.fixture(scope="session")
def caches(
    dataset: Callable[..., Any], identity: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Write the soft masks, and the hard ones of each level as a cache of their own."""
    folder, loaded = tmp_path_factory.mktemp("levels"), dataset(LOAD)
    samples = [loaded[index] for index in range(PICTURES)]
    made = [(str(sample["img_id"]), layered(sample)) for sample in samples]
    paths = [folder / f"{kind}.sqlite" for kind in ("soft", *LEVELS)]
    for kind, path in enumerate(paths):
        settings = {"settings": {"mask_thresholds": list(LEVELS)}} if kind == 0 else {}
        with CacheWriter(path, {**identity, **settings}) as writer:
            writer.write((key, entries[kind]) for key, entries in made)
    return paths


def by_score(found: InstanceData) -> dict[int, list[torch.Tensor]]:
    """Give the cells of each instance; of a picture that is there twice, of both."""
    cells: dict[int, list[torch.Tensor]] = {}
    for score, each in zip(found.scores, found.mask_cells, strict=True):
        cells.setdefault(round((float(score) - 0.4) * 8000), []).append(each.float())
    return cells


@pytest.mark.parametrize("name", PIPELINES)
def test_soft_cells_are_the_mean_of_masks_that_were_warped_one_by_one(
    name: str, dataset: Callable[..., Any], caches: list[Path]
) -> None:
    alone, mixed = PIPELINES[name]

    def samples(cache: Path) -> Any:
        load, split = (
            {"type": f"ibkd_mm.{kind}TeacherInstances", "cache": str(cache)} for kind in ("Load", "Split")
        )
        if not mixed:
            return dataset([*LOAD, load, *alone, *END, split])
        return dataset([*LOAD, load], *mixed[:-1], [*mixed[-1], *END, split])

    soft, *hard = map(samples, caches)
    compared = lost = 0
    for index in range(PICTURES):
        found, *levels = (drawn(each, index) for each in (soft, *hard))
        assert len(found.ignored_instances) == len(levels[1].ignored_instances)
        # as many as of the main level, in its order, with its boxes
        assert torch.equal(found.teacher_instances.scores, levels[1].teacher_instances.scores)
        assert torch.equal(found.teacher_instances.bboxes, levels[1].teacher_instances.bboxes)
        apart = [by_score(each.teacher_instances) for each in levels]
        for key, cells in by_score(found.teacher_instances).items():
            counts = {len(level.get(key, [])) for level in apart}
            if max(counts) > 1 and len(counts) > 1:  # which of them was left out at a level?
                continue
            for at, each in enumerate(cells):
                expected = torch.zeros_like(each)
                for level, weight in zip(apart, WEIGHTS, strict=True):
                    lost += key not in level
                    expected += weight * level[key][at] if key in level else 0
                torch.testing.assert_close(each, expected, rtol=0, atol=1e-4)
                compared += 1
    assert compared > 80
    assert (lost > 3) == (name != "flips")


def drawn(samples: Any, index: int) -> Any:
    """Read a sample as it would be drawn with a seed."""
    random.seed(index)
    np.random.seed(index)
    return samples[index]["data_samples"]


def written(path: Path, identity: dict[str, Any], entry: CachedInstances) -> str:
    settings = {"topk_classes": 5, "mask_thresholds": list(entry.thresholds)}
    with CacheWriter(path, {**identity, "settings": settings}) as writer:
        writer.write([("a", entry)])
    return str(path)


def bare(height: int, width: int) -> dict[str, Any]:
    return {"img": np.zeros((height, width, 3), np.uint8), "img_id": "a"}


def through(cache: str, results: dict[str, Any], *between: Callable[[Any], Any]) -> Any:
    """Load what was seen, do something to it and take it out again."""
    load = [{"type": "ibkd_mm.NoAnnotations"}, {"type": "ibkd_mm.LoadTeacherInstances", "cache": cache}]
    with DefaultScope.overwrite_default_scope("mmdet"):
        first = [TRANSFORMS.build(each) for each in load]
        last = [
            TRANSFORMS.build(each)
            for each in (*END, {"type": "ibkd_mm.SplitTeacherInstances", "cache": cache})
        ]
        for each in (*first, *between, *last):
            results = each(results)
    return results["data_samples"]


def test_a_ramp_comes_out_within_the_spacing_of_the_levels(
    tmp_path: Path, identity: dict[str, Any], truth: Callable
) -> None:
    """Cells of 0.1 to 0.9; at a half itself a mask is not."""
    ramp = torch.arange(1, 10) / 10
    ramp[4] = 0.5
    pixels = ramp.repeat_interleave(4).repeat(8, 1)[None]
    instances = TeacherInstances(
        torch.zeros(1), torch.full((1, 8), 0.1), torch.ones(1), pixels.logit(), torch.zeros(1, 4)
    )
    meta = {"img_id": "a", "ori_shape": (8, 36)}
    step: Any = SimpleNamespace(
        truth=truth([0], torch.zeros(1, 2, 9)),
        outputs=SimpleNamespace(class_logits=torch.zeros(1, 8, 4)),
    )
    shares = {}
    for levels in ((0.5,), (0.25, 0.5, 0.75)):
        entry = entry_of(instances, (8, 36), meta, thresholds=levels)
        assert entry.boxes.tolist() == [[20, 0, 36, 8]]
        cache = written(tmp_path / f"{len(levels)}.sqlite", identity, entry)
        seen = through(cache, bare(8, 36)).teacher_instances
        assert seen.bboxes.tolist() == [[20, 0, 36, 8]]
        shares[len(levels)] = from_cached([seen], step, 0.9999).mask_logits.sigmoid()[0]
    expected = torch.tensor([0, 0, 0.375, 0.375, 0.375, 0.625, 0.625, 1, 1]).repeat(2, 1)
    torch.testing.assert_close(shares[3], expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(shares[1], (ramp > 0.5).float().repeat(2, 1), rtol=0, atol=2e-4)
    soft, hard = ((shares[count] - ramp).abs() for count in (3, 1))
    assert soft.max() < 0.25
    assert (soft <= hard + 1e-6).all()
    assert soft.mean() < 0.4 * hard.mean()


def two(levels: tuple[float, ...] = LEVELS) -> CachedInstances:
    """See two squares with sides of 16, 8 and 4 pixels at the three levels, the second not at the last."""
    masks = np.zeros((3, 2, 16, 40), np.uint8)
    for mask, side in zip(masks, (16, 8, 4), strict=True):
        mask[0, :side, :side] = mask[1, :side, 20 : 20 + side] = 1
    masks[2, 1] = 0
    boxes, odds = np.array([[0, 0, 8, 8], [20, 0, 28, 8]], np.float32), np.eye(8, dtype=np.float32)[:2]
    return CachedInstances.of(boxes, np.array([0.9, 0.8], np.float32), odds, masks, 5, levels)


@pytest.mark.parametrize(
    ("dropped", "left"),
    [
        ([], [[0.35 * 256 + 0.35 * 64 + 0.3 * 16], [0.35 * 256 + 0.35 * 64]]),
        ([1], [[0.35 * 64 + 0.3 * 16], [0.35 * 256 + 0.35 * 64]]),
        ([2], [[0.35 * 256 + 0.35 * 64], [0.35 * 256 + 0.35 * 64]]),
        ([1, 2, 4], [[0.35 * 64], [0.35 * 64]]),
        ([0], [[], [0.35 * 256 + 0.35 * 64]]),
        ([3], [[0.35 * 256 + 0.35 * 64 + 0.3 * 16], []]),
        ([1, 2, 3], [[0.35 * 64], []]),
        ([0, 3], [[], []]),
    ],
)
def test_a_level_that_was_left_out_counts_as_nothing_and_the_main_one_as_all(
    dropped: list[int], left: list[list[float]], tmp_path: Path, identity: dict[str, Any]
) -> None:
    """Riders are the main mask, the others of a row, then the next row; what is empty does not ride."""
    cache = written(tmp_path / "a.sqlite", identity, two())

    def drop(results: dict[str, Any]) -> dict[str, Any]:
        riders = AnnotatedImage.from_results(results)
        assert len(riders.boxes) == 5
        kept = np.setdiff1d(np.arange(5), dropped)
        assert riders.masks is not None
        columns = (each[kept] for each in (riders.boxes, riders.labels, riders.ignored, riders.masks))
        return AnnotatedImage(riders.image, *columns).write(results)

    sample = through(cache, bare(16, 40), drop)
    seen = sample.teacher_instances
    rows = [row for row, each in enumerate(left) if each]
    assert len(sample.ignored_instances) == 0
    assert seen.mask_cells.shape == (len(rows), 4, 10)
    assert seen.mask_cells.sum((1, 2)).tolist() == pytest.approx([left[row][0] for row in rows])
    assert seen.bboxes.tolist() == [[[0, 0, 8, 8], [20, 0, 28, 8]][row] for row in rows]
    assert seen.scores.tolist() == pytest.approx([(0.9, 0.8)[row] for row in rows], abs=1e-4)
    if rows:
        assert seen.probabilities.argmax(1).tolist() == rows


@pytest.mark.parametrize("rows", [1, 2])
def test_of_a_picture_that_is_there_twice_levels_stay_apart(
    rows: int, tmp_path: Path, identity: dict[str, Any]
) -> None:
    """Once whole and once moved down, where the main level of the first row is left out."""
    whole, moved = (slice(start, (3, 5)[rows - 1]) for start in (0, 1))
    cache = written(tmp_path / "a.sqlite", identity, two())

    def twice(results: dict[str, Any]) -> dict[str, Any]:
        riders = AnnotatedImage.from_results(results)
        assert riders.masks is not None
        below = riders.boxes + np.array([0, 16, 0, 16], np.float32)
        under, over = (np.pad(riders.masks, ((0, 0), added, (0, 0))) for added in ((0, 16), (16, 0)))
        boxes, masks, labels, ignored = (
            np.concatenate([one[whole], other[moved]])
            for one, other in (
                (riders.boxes, below),
                (under, over),
                (riders.labels, riders.labels),
                (riders.ignored, riders.ignored),
            )
        )
        return AnnotatedImage(np.zeros((32, 40, 3), np.uint8), boxes, labels, ignored, masks).write(results)

    seen = through(cache, bare(16, 40), twice).teacher_instances
    assert seen.bboxes[:, :2].tolist() == [[0, 0], [20, 0], [20, 16]][: 2 * rows - 1]
    soft = [0.35 * 256 + 0.35 * 64 + 0.3 * 16, *[0.35 * 256 + 0.35 * 64] * 2]
    assert seen.mask_cells.sum((1, 2)).tolist() == pytest.approx(soft[: 2 * rows - 1])
    assert seen.mask_cells[:2, 4:].sum() == seen.mask_cells[2:, :4].sum() == 0


def test_where_no_masks_are_loaded_a_row_rides_once(tmp_path: Path, identity: dict[str, Any]) -> None:
    cache = written(tmp_path / "a.sqlite", identity, two())
    load = TRANSFORMS.build(
        {"type": "ibkd_mm.LoadTeacherInstances", "cache": cache, "pseudo_label_thr": 0.85}
    )
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), None
    empty = AnnotatedImage(np.zeros((16, 40, 3), np.uint8), *nothing).write({"img_id": "a"})
    found = AnnotatedImage.from_results(load(empty))
    assert found.boxes.tolist() == [[0, 0, 8, 8], [20, 0, 28, 8], [0, 0, 8, 8]]
    assert found.ignored.tolist() == [True, True, False]


def test_what_is_taken_for_true_is_the_main_mask(tmp_path: Path, identity: dict[str, Any]) -> None:
    cache = written(tmp_path / "a.sqlite", identity, two())
    load = TRANSFORMS.build(
        {"type": "ibkd_mm.LoadTeacherInstances", "cache": cache, "pseudo_label_thr": 0.85}
    )
    empty = TRANSFORMS.build({"type": "ibkd_mm.NoAnnotations"})(bare(16, 40))
    found = AnnotatedImage.from_results(load(empty))
    assert found.masks is not None
    assert found.ignored.tolist() == [True] * 5 + [False]
    assert found.masks.sum((1, 2)).tolist() == [64, 256, 16, 64, 256, 64]
    assert found.labels[-1] == 0


def test_a_file_names_the_levels_of_its_entries(tmp_path: Path, identity: dict[str, Any]) -> None:
    entry = two()
    with CacheReader(written(tmp_path / "a.sqlite", identity, entry)) as reader:
        assert reader.codec.thresholds == LEVELS
        found = reader.find("a")
    assert found is not None
    assert found[1].thresholds == LEVELS
    places = range(len(LEVELS) * len(entry))
    assert np.array_equal(found[1].unpack_masks(places), entry.unpack_masks(places))
    with CacheWriter(tmp_path / "b.sqlite", identity) as writer:  # of hard masks
        writer.write([("a", entry)])
    with CacheReader(tmp_path / "b.sqlite") as reader, pytest.raises(UserError, match="cannot be read"):
        reader.find("a")
    with pytest.raises(ValueError, match="do not fit together"):
        unpack(pack(entry), (0.5, 0.6))
