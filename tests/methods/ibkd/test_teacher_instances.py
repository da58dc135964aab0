"""Masks bounded as if they were enlarged to pixels, and put on other grids."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.methods.ibkd import TeacherInstances
from ibkd_mm.methods.ibkd.teacher_instances import boxes_from_mask_logits

STRIDE = 4


def bounded(logits: Tensor) -> Tensor | None:
    """Bound one mask, enlarged to pixels; None where no centre of a pixel is inside."""
    inside = F.interpolate(logits[None, None], scale_factor=STRIDE, mode="bilinear")[0, 0] > 0
    rows, columns = inside.nonzero(as_tuple=True)
    if not len(rows):
        return None
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


def bounded_by_points(logits: Tensor, finer: int) -> Tensor | None:
    """Bound one mask by points 1/`finer` of a cell apart, some of which lie on the centres of cells.

    Between four centres a bilinear mask has its tips on the lines that join them, and is linear along
    these: no tip is farther than that from a point.
    """
    height, width = logits.shape
    around = F.pad(logits[None, None], (1, 1, 1, 1), mode="replicate")
    size = (height + 1) * finer + 1, (width + 1) * finer + 1
    inside = F.interpolate(around, size, mode="bilinear", align_corners=True)[0, 0] > 0
    rows, columns = (each / finer - 0.5 for each in inside.nonzero(as_tuple=True))
    if not len(rows):
        return None
    rows, columns = rows.clamp(0, height), columns.clamp(0, width)
    return torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]) * STRIDE


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7), st.floats(-3, 1))
def test_a_box_bounds_the_mask_that_is_enlarged(seed: int, height: int, width: int, shift: float) -> None:
    """Points every 1/40 of a cell, a tenth of a pixel: the box is exact but for what lies between points."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(height, width, generator=generator) * 3 + shift
    expected = bounded_by_points(logits, 40)
    if expected is not None:
        found = boxes_from_mask_logits(logits[None], STRIDE)[0]
        torch.testing.assert_close(found, expected, atol=STRIDE / 40, rtol=1e-5)


def test_a_box_lies_within_a_pixel_of_the_mask_in_pixels() -> None:
    """Half of one for where the centres of pixels are, and a little for tips between their rows."""
    masks = F.interpolate(torch.randn(50, 1, 4, 4), 24, mode="bicubic")[:, 0] * 5
    for logits, box in zip(masks, boxes_from_mask_logits(masks, STRIDE), strict=True):
        expected = bounded(logits)
        assert expected is not None
        assert (box - expected).abs().max() <= 0.75


def test_an_edge_by_hand() -> None:
    """Logits from 3 to -1 in neighbouring cells: zero three quarters of the way between their centres."""
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, 1:3, 1:3] = 3.0
    assert boxes_from_mask_logits(logits, STRIDE).tolist() == [[3.0, 3.0, 13.0, 13.0]]


def test_the_row_that_reaches_farthest_decides_and_not_the_highest_logits_of_several() -> None:
    logits = torch.full((1, 4, 4), -10.0)
    logits[0, 1, 2] = 10.0  # crosses half a cell before the centre of its cell, at 8 pixels
    logits[0, 2, 2], logits[0, 2, 1] = 0.1, -0.1  # as does this, though 10 and -0.1 would cross at 6
    assert boxes_from_mask_logits(logits, STRIDE)[0, 0].item() == pytest.approx(8.0)


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 4), slice(0, 4)])
@pytest.mark.parametrize("columns", [slice(0, 2), slice(3, 5), slice(0, 5)])
def test_a_mask_at_the_border_is_bounded_by_it(rows: slice, columns: slice) -> None:
    logits = torch.full((1, 4, 5), -2.0)
    logits[0, rows, columns] = 2.0
    expected = [columns.start, rows.start, columns.stop, rows.stop]
    assert boxes_from_mask_logits(logits, STRIDE)[0].tolist() == [STRIDE * edge for edge in expected]


def test_a_mask_of_nothing_is_bounded_by_the_picture() -> None:
    assert boxes_from_mask_logits(torch.full((2, 4, 5), -3.0), STRIDE).tolist() == [[0, 0, 20, 16]] * 2


def test_no_masks_have_no_boxes() -> None:
    assert boxes_from_mask_logits(torch.zeros(0, 4, 5), STRIDE).shape == (0, 4)


@pytest.mark.parametrize("high", [1e-4, 88.0, 6e4])
def test_extremes_are_bounded(high: float) -> None:
    logits = torch.full((1, 4, 4), -high)
    logits[0, 1:3, 1:3] = high
    assert boxes_from_mask_logits(logits, STRIDE).tolist() == [[4, 4, 12, 12]]


def test_masks_come_on_the_grid_that_is_asked_for(seen: Callable[..., TeacherInstances]) -> None:
    teacher = seen([0, 1], torch.randn(2, 4, 6))
    assert teacher.on_grid((4, 6)) is teacher.mask_logits
    finer = teacher.on_grid((8, 12))
    # the weights of a point a quarter of a cell from a centre, away from borders
    corner = teacher.mask_logits[1, :2, :2]
    weights = torch.tensor([0.75, 0.25])
    assert finer[1, 1, 1].item() == pytest.approx((weights @ corner @ weights).item(), abs=1e-6)
    assert seen([], torch.zeros(0, 4, 6)).on_grid((8, 12)).shape == (0, 8, 12)
    assert (len(teacher), len(seen([], torch.zeros(0, 4, 6)))) == (2, 0)
