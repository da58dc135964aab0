"""Compare with pycocotools: masks that it encodes are accepted, accepted ones decode to the same area."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from ibkd_mm.data_check.rle import decode_runs, find_rle_fault

MASKS = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)
)
LETTERS = "".join(map(chr, range(ord("0"), ord("0") + 64)))


def _encoded(mask):
    found = coco.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


@given(MASKS)
def test_every_encoded_mask_is_read_as_its_runs(mask):
    rle = _encoded(mask)
    runs = decode_runs(rle["counts"])
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).reshape(mask.shape, order="F")
    np.testing.assert_array_equal(pixels, mask)
    size = (mask.shape[1], mask.shape[0])
    expected = None if mask.any() else ("mask-empty", "")
    assert find_rle_fault(rle, size) == expected
    assert find_rle_fault({**rle, "counts": runs.tolist()}, size) == expected


@given(MASKS, st.integers(1, 8))
def test_every_text_cut_short_is_found(mask, lost):
    rle = _encoded(mask)
    rle["counts"] = rle["counts"][:-lost]
    kind, _ = find_rle_fault(rle, None)
    assert kind in ("rle-counts", "rle-undecodable")


@settings(max_examples=500)
@given(st.text(LETTERS, max_size=12), st.integers(1, 30), st.integers(1, 30))
def test_what_is_accepted_decodes_to_the_same_area(counts, height, width):
    rle = {"size": [height, width], "counts": counts}
    fault = find_rle_fault(rle, (width, height))
    if fault is None:
        assert coco.decode(rle).sum() == decode_runs(counts)[1::2].sum() == coco.area(rle)


@given(st.text(max_size=20))
def test_no_text_is_too_strange_to_be_refused(counts):
    fault = find_rle_fault({"size": [5, 7], "counts": counts}, (7, 5))
    assert fault is None or fault[0] in ("rle-counts", "rle-undecodable", "mask-empty")


def test_a_number_takes_the_difference_to_the_one_two_before():
    # 3, 2, 4 as they are, then 2 + 1 = 3 and 4 - 2 = 2; 'N' is 30, that is -2 in five bits.
    np.testing.assert_array_equal(decode_runs("3241N"), [3, 2, 4, 3, 2])
    assert find_rle_fault({"size": [2, 7], "counts": "3241N"}, (7, 2)) is None
    assert coco.area({"size": [2, 7], "counts": "3241N"}) == 2 + 3


@pytest.mark.parametrize(
    ("counts", "kind", "reason"),
    [
        ("", "rle-counts", "add up to 0 pixels, the image has 12"),
        ("o" * 9 + "0", "rle-undecodable", "more than 32 bits"),
        ("\ud800", "rle-undecodable", "does not use"),
        ("N>", "rle-counts", "run 0 is negative"),
        ([12.5], "rle-undecodable", "whole numbers"),
        ([float("nan"), 12], "rle-undecodable", "whole numbers"),
        ([2**32 + 12], "rle-undecodable", "32 bits"),
        ([10**400], "rle-undecodable", "32 bits"),
        ([4, "4", 4], "rle-undecodable", "found [4, '4', 4]"),
        ([[4, 4, 4]], "rle-undecodable", "found [[4, 4, 4]]"),
        (None, "rle-undecodable", "found None"),
    ],
)
def test_counts_that_are_none(counts, kind, reason):
    found = find_rle_fault({"size": [3, 4], "counts": counts}, (4, 3))
    assert found is not None
    assert found[0] == kind
    assert reason in found[1]


@pytest.mark.parametrize("size", [None, 12, [3], [3, 0], [3, -4], [3, "4"], [3, 4, 1], {"h": 3}, [3, 1e300]])
def test_sizes_that_are_none(size):
    assert find_rle_fault({"size": size, "counts": [4, 4, 4]}, (4, 3))[0] == "mask-malformed"


def test_whole_numbers_may_be_written_as_fractions():
    assert find_rle_fault({"size": [3, 4], "counts": [4.0, 4.0, 4.0]}, (4, 3)) is None
