"""What is packed is unpacked: masks bit for bit, boxes as they were, probabilities to 16 bits."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from helpers.teacher_caches import pack, unpack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedInstances
from ibkd_mm.offline.instance_codec import InstanceCodec, min_component_ratio_of, remove_small_components

RUNS, BITMAP = 0, 1
SIDES = st.integers(1, 40)


def of(masks: NDArray[np.uint8], top: int = 5) -> CachedInstances:
    count, rng = len(masks), np.random.default_rng(0)
    boxes = rng.normal(0, 1e3, (count, 4)).astype(np.float32)
    odds = rng.dirichlet([0.5] * 8, count).astype(np.float32).reshape(count, 8)
    return CachedInstances.of(boxes, rng.uniform(0, 1, count).astype(np.float32), odds, masks, top)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.0, "abcd"), (0.1, "abcd"), (0.11, "abc"), (0.3, "abc"), (0.31, "ab"), (1.0, "a")]
)
def test_parts_smaller_than_a_share_of_the_largest_are_left_out(share: float, kept: str) -> None:
    """Of 20, 14, 6 and 2 pixels: b of two that touch at a corner, c as often as its share of a is over it."""
    mask = np.zeros((12, 30), np.uint8)
    parts = {
        "a": [(slice(2, 6), slice(1, 6))],
        "b": [(slice(2, 4), slice(8, 12)), (slice(4, 6), slice(12, 15))],
        "c": [(slice(8, 10), slice(20, 23))],
        "d": [(slice(11, 12), slice(28, 30))],
    }
    for name, places in parts.items():
        for place in places:
            mask[place] = ord(name)
    letters, mask = mask, (mask > 0).astype(np.uint8)
    before = mask.copy()
    expected = np.isin(letters, [ord(name) for name in kept])
    for given_as in (mask, np.asfortranarray(mask)):
        found = remove_small_components(given_as, share)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
    assert np.array_equal(mask, before)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(SIDES, SIDES), elements=st.integers(0, 1)), st.floats(0, 1))
def test_what_is_left_of_a_mask_is_of_it_and_its_largest_part_stays(
    mask: NDArray[np.uint8], share: float
) -> None:
    left = remove_small_components(mask, share)
    assert (left <= mask).all()
    assert left.any() == mask.any()
    assert np.array_equal(remove_small_components(left, share), left)
    assert np.array_equal(remove_small_components(mask, 0.0), mask)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "much", None])
def test_a_share_is_from_0_to_1(wrong: object) -> None:
    with pytest.raises(UserError, match=r"teacher_cache\.min_component_ratio from 0 to 1, found"):
        min_component_ratio_of({"min_component_ratio": wrong})
    assert min_component_ratio_of({}) == 0.0


@settings(max_examples=60, deadline=None)
@given(
    masks=st.tuples(st.integers(0, 5), SIDES, SIDES).flatmap(
        lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 1))
    ),
    top=st.integers(1, 12),
)
def test_any_entry_comes_back(
    same: Callable[[CachedInstances, CachedInstances], bool], masks: NDArray[np.uint8], top: int
) -> None:
    entry = of(masks, top)
    found = unpack(pack(entry))
    assert same(found, entry)
    assert np.array_equal(found.masks, masks)
    assert found.masks.dtype == np.uint8
    assert found.boxes.dtype == found.scores.dtype == found.probabilities.dtype == np.float32
    assert found.top_classes.shape == (len(masks), min(top, 8))
    assert pack(found) == pack(entry)


@settings(max_examples=30, deadline=None)
@given(
    masks=st.tuples(st.integers(2, 4), st.integers(0, 3), SIDES, SIDES).flatmap(
        lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 1))
    ),
)
def test_any_entry_of_several_levels_comes_back(
    same: Callable[[CachedInstances, CachedInstances], bool], masks: NDArray[np.uint8]
) -> None:
    levels = (0.1, 0.45, 0.6, 0.9)[: len(masks)]
    hard = of(masks[1])
    columns = hard.boxes, hard.scores, hard.probabilities
    entry = CachedInstances.of(*columns, masks, 5, levels)
    found = unpack(pack(entry), levels)
    assert found.thresholds == levels
    assert same(found, hard)  # the level nearest to a half
    flat = masks.reshape(-1, *masks.shape[2:])
    assert np.array_equal(found.unpack_masks(range(len(flat))), flat)
    assert np.array_equal(found.unpack_masks(np.arange(len(flat))[::-2]), flat[::-2])
    assert pack(found) == pack(entry)


def test_one_level_takes_no_byte_more_than_the_mask_itself(entry: Callable[..., CachedInstances]) -> None:
    """Besides masks: a box, a size, a form, a score and five classes with their probabilities."""
    made = entry(1, count=8)
    body = zlib.decompress(pack(made)[10:])
    assert len(body) == 8 * (16 + 4 + 1 + 2 + 5 * 4) + sum(len(data) for _, data in made.packed_masks)
    same_masks = made.masks[None]
    columns = made.boxes, made.scores, made.probabilities
    assert pack(CachedInstances.of(*columns, same_masks, 5, (0.5,))) == pack(made)


def shaped(draw: str) -> NDArray[np.uint8]:
    mask = np.zeros((48, 64), np.uint8)
    rows, columns = np.ogrid[:48, :64]
    round_ = (rows - 24) ** 2 + (columns - 32) ** 2
    match draw:
        case "full":
            mask[:] = 1
        case "one pixel":
            mask[47, 63] = 1
        case "first pixel":
            mask[0, 0] = 1
        case "disc":
            mask[round_ < 400] = 1
        case "ring":
            mask[(round_ < 400) & (round_ > 100)] = 1
        case "chequered":
            mask[(rows + columns) % 2 == 0] = 1
    return mask


@pytest.mark.parametrize(
    ("draw", "form"),
    [
        ("empty", RUNS),
        ("full", RUNS),
        ("disc", RUNS),
        ("ring", RUNS),
        ("one pixel", RUNS),
        ("first pixel", RUNS),
        ("chequered", BITMAP),
    ],
)
def test_each_mask_is_exact_in_the_shorter_form(draw: str, form: int) -> None:
    mask = shaped(draw)
    entry = of(mask[None])
    ((found, data),) = entry.packed_masks
    assert found == form
    assert len(data) <= 8 + (48 * 64 + 7) // 8
    assert np.array_equal(unpack(pack(entry)).masks[0], mask)


def test_forms_may_differ_in_one_entry() -> None:
    masks = np.stack([shaped(draw) for draw in ("chequered", "empty", "disc", "chequered")])
    entry = of(masks)
    assert [form for form, _ in entry.packed_masks] == [BITMAP, RUNS, RUNS, BITMAP]
    assert np.array_equal(unpack(pack(entry)).masks, masks)


def test_the_likeliest_classes_are_kept_and_the_rest_is_zero() -> None:
    odds = np.array([[0.1, 0.5, 0.05, 0.3], [0.0, 0.0, 1.0, 0.0]], np.float32)
    boxes, scores = np.array([[1.25, 2, 3, 4.5]] * 2, np.float32), np.array([0.25, 1], np.float32)
    entry = unpack(pack(CachedInstances.of(boxes, scores, odds, np.ones((2, 3, 3), np.uint8), 2)))
    assert entry.top_classes.tolist() == [[1, 3], [2, 0]]
    assert entry.probabilities == pytest.approx(np.array([[0, 0.5, 0, 0.3], [0, 0, 1, 0]]), abs=1 / 65535)
    assert entry.scores == pytest.approx([0.25, 1], abs=1 / 65535)
    assert entry.boxes.tolist() == [[1.25, 2, 3, 4.5]] * 2


def test_a_picture_of_shapes_takes_less_than_3_kilobytes(entry: Callable[..., CachedInstances]) -> None:
    sizes = [len(pack(entry(seed, count=8))) for seed in range(20)]
    assert max(sizes) < 3 * 1024
    assert len(pack(entry(0, count=0))) < 30


@pytest.mark.parametrize("levels", [(0.5,), (0.25, 0.5, 0.75)])
def test_what_is_damaged_is_refused(entry: Callable[..., CachedInstances], levels: tuple[float, ...]) -> None:
    made = entry(1)
    masks = np.stack([made.masks] * len(levels))
    data = pack(CachedInstances.of(made.boxes, made.scores, made.probabilities, masks, 5, levels))
    assert len(unpack(data, levels)) == 4
    rng = np.random.default_rng(0)
    damaged = [data[:length] for length in (0, 3, 9, 40, len(data) - 1)]
    for place in rng.integers(10, len(data), 40).tolist():  # behind what says how much there is
        damaged.append(data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :])
    for place in (5, 7):  # how many instances, and how many classes of each
        damaged.append(data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :])
    for each in damaged:
        with pytest.raises((ValueError, zlib.error, struct.error)):
            unpack(each, levels)


def test_a_newer_entry_is_refused(entry: Callable[..., CachedInstances]) -> None:
    data = pack(entry(1))
    with pytest.raises(
        ValueError,
        match=f"of version {InstanceCodec.version + 1}, and this code reads {InstanceCodec.version}",
    ):
        unpack(bytes([InstanceCodec.version + 1]) + data[1:])
