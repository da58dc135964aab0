from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ibkd_mm.datasets.transforms import PasteInstances
from ibkd_mm.errors import UserError


@pytest.fixture
def all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the largest number."""
    monkeypatch.setattr(np.random, "randint", lambda high: high - 1)


def one_colour(colour: int) -> np.ndarray:
    return np.full((40, 60, 3), colour, np.uint8)


def pasted(under: dict[str, Any], source: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return PasteInstances(**settings).transform({**under, "mix_results": [source]})


@pytest.mark.usefixtures("all_of_them")
def test_pixels_boxes_masks_and_labels_agree(sample: Callable) -> None:
    under = sample(
        60, 40, [[0, 0, 20, 20], [30, 10, 50, 30], [52, 0, 60, 8]], labels=[1, 2, 3], image=one_colour(10)
    )
    under["gt_bboxes"].tensor[2] += 0.25  # boxes that are not of whole pixels
    source = sample(60, 40, [[10, 0, 40, 20]], labels=[9], image=one_colour(200))
    found = pasted(under, source)
    assert found["img"].dtype == np.uint8
    assert (found["img"] == 10).all(axis=2).sum() == 40 * 60 - 600
    assert (found["img"][:20, 10:40] == 200).all()
    assert found["gt_bboxes_labels"].tolist() == [1, 2, 3, 9]
    masks = found["gt_masks"].masks
    assert masks.dtype == np.uint8
    assert masks.sum((1, 2)).tolist() == [10 * 20, 400 - 10 * 10, 64, 600]
    assert (masks.sum(0) <= 1).all()  # nothing is two instances'
    assert found["gt_bboxes"].tensor.tolist() == [
        [0, 0, 10, 20],
        [30, 10, 50, 30],  # an L that reaches as far as before
        [52.25, 0.25, 60.25, 8.25],  # not touched
        [10, 0, 40, 20],
    ]


@pytest.mark.usefixtures("all_of_them")
def test_what_is_covered_is_left_out_with_all_that_is_known_of_it(sample: Callable) -> None:
    under = sample(
        60,
        40,
        [[10, 10, 20, 20], [0, 0, 10, 10], [10, 0, 35, 10]],
        labels=[1, 2, 3],
        ignored=[False, True, False],
    )
    source = sample(60, 40, [[10, 0, 33, 30]], labels=[9])
    found = pasted(under, source, min_area_share=0.1)
    assert found["gt_bboxes_labels"].tolist() == [2, 9]  # 2 of 25 columns are left of the third
    assert found["gt_ignore_flags"].tolist() == [True, False]
    assert len(found["gt_masks"]) == len(found["gt_bboxes"]) == 2
    assert pasted(under, source, min_area_share=0.05)["gt_bboxes_labels"].tolist() == [2, 3, 9]


@pytest.mark.usefixtures("all_of_them")
def test_crowds_are_not_pasted_and_no_more_than_allowed(sample: Callable) -> None:
    under = sample(60, 40)
    boxes = [[5 * index, 0, 5 * index + 4, 4] for index in range(6)]
    source = sample(60, 40, boxes, ignored=[True, False] * 3)
    assert sorted(pasted(under, source)["gt_bboxes_labels"].tolist()) == [1, 3, 5]
    chosen = pasted(under, source, max_pasted=2)["gt_bboxes_labels"].tolist()
    assert len(set(chosen)) == 2
    assert set(chosen) <= {1, 3, 5}


def test_any_number_is_pasted_and_the_sources_stay_whole(sample: Callable) -> None:
    boxes = [[5 * index, 0, 5 * index + 4, 4] for index in range(3)]
    counts = set()
    for _ in range(100):
        under, source = sample(60, 40, [[0, 0, 30, 30]]), sample(60, 40, boxes)
        counts.add(len(pasted(under, source)["gt_bboxes"]) - 1)
        assert source["gt_masks"].masks.sum() == 48
        assert under["gt_masks"].masks.sum() == 900
    assert counts == {0, 1, 2, 3}


def test_nothing_to_paste_from(sample: Callable) -> None:
    under = sample(60, 40, [[0, 0, 30, 30]])
    assert PasteInstances().transform({**under, "mix_results": []})["img"] is under["img"]
    found = pasted(under, sample(60, 40))
    assert np.array_equal(found["img"], under["img"])
    assert found["gt_bboxes"].tensor.tolist() == [[0, 0, 30, 30]]


def test_images_of_two_sizes_are_named(sample: Callable) -> None:
    with pytest.raises(UserError, match=r"\(40, 60\) and \(40, 61\).*ends with MosaicAffine"):
        pasted(sample(60, 40), sample(61, 40, [[0, 0, 9, 9]]))
