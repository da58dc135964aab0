"""Boxes and masks come back to the place in the image that they came from."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.yolov10.mask_paste import Frame, paste_masks

STRIDE = 4


def cells(height: int, width: int, region: tuple[slice, slice]) -> Tensor:
    """Shares of one mask that is 1 in a region of cells and 0 elsewhere."""
    shares = torch.zeros(1, height, width)
    shares[0, region[0], region[1]] = 1
    return shares


def pasted(shares: Tensor, boxes: Tensor, frame: Frame, together: int = 1) -> Tensor:
    return paste_masks(shares, boxes, frame, stride=STRIDE, threshold=0.5, chunk=together)


def rectangle(frame: Frame, x1: int, y1: int, x2: int, y2: int) -> Tensor:
    """A mask that is full but for the pixels at its corners, which interpolating both ways rounds off."""
    mask = torch.zeros(1, frame.height, frame.width, dtype=torch.bool)
    mask[0, y1:y2, x1:x2] = True
    mask[0, [y1, y1, y2 - 1, y2 - 1], [x1, x2 - 1, x1, x2 - 1]] = False
    return mask


def full(mask: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a mask that must be a full rectangle."""
    rows, columns = (each.tolist() for each in mask.nonzero(as_tuple=True))
    x1, y1, x2, y2 = min(columns), min(rows), max(columns) + 1, max(rows) + 1
    assert mask[y1:y2, x1:x2].all()
    return x1, y1, x2, y2


META = {"ori_shape": (60, 100), "img_shape": (96, 160), "scale_factor": (1.6, 1.6)}


def test_a_known_mask_comes_back_at_a_known_place() -> None:
    """100 x 60 enlarged by 1.6 has 40 x 24 cells. Cells 4:12 and 2:8 are pixels 10:30 and 5:20."""
    frame = Frame.from_meta(META, rescale=True)
    shares = cells(24, 40, (slice(2, 8), slice(4, 12)))
    assert torch.equal(
        pasted(shares, torch.tensor([[0.0, 0, 100, 60]]), frame), rectangle(frame, 10, 5, 30, 20)
    )


def test_padding_on_the_left_and_top_is_undone() -> None:
    frame = Frame.from_meta({**META, "pad_param": (8, 24, 16, 16)}, rescale=True)
    boxes = frame.boxes(torch.tensor([[16.0 + 16, 8.0 + 8, 48.0 + 16, 32.0 + 8]]))
    assert boxes.tolist() == [pytest.approx([10, 5, 30, 20])]
    shares = cells(32, 48, (slice(4, 10), slice(8, 16)))
    whole = torch.tensor([[0.0, 0, 100, 60]])
    assert torch.equal(pasted(shares, whole, frame), rectangle(frame, 10, 5, 30, 20))
    assert full(pasted(torch.ones_like(shares), boxes, frame)[0]) == (10, 5, 30, 20)


def test_without_rescaling_results_are_in_the_networks_input() -> None:
    frame = Frame.from_meta(META, rescale=False)
    assert (frame.width, frame.height) == (160, 96)
    shares = cells(24, 40, (slice(2, 8), slice(4, 12)))
    assert torch.equal(
        pasted(shares, torch.tensor([[0.0, 0, 160, 96]]), frame), rectangle(frame, 16, 8, 48, 32)
    )


def test_sides_enlarged_unequally_are_undone_each() -> None:
    frame = Frame.from_meta({**META, "scale_factor": (1.6, 0.8)}, rescale=True)
    assert frame.boxes(torch.tensor([[16.0, 8.0, 48.0, 32.0]])).tolist() == [pytest.approx([10, 10, 30, 40])]
    shares = cells(12, 40, (slice(2, 8), slice(4, 12)))
    assert torch.equal(
        pasted(shares, torch.tensor([[0.0, 0, 100, 60]]), frame), rectangle(frame, 10, 10, 30, 40)
    )


def test_boxes_are_clipped_to_the_image() -> None:
    boxes = Frame.from_meta(META, rescale=True).boxes(
        torch.tensor([[-50.0, -1.0, 500.0, 97.0], [200.0, 0, 300, 40]])
    )
    assert boxes.tolist() == [[0, 0, 100, 60], [100, 0, 100, pytest.approx(25)]]


def test_masks_stay_in_their_boxes_by_the_centres_of_pixels() -> None:
    frame = Frame(20, 12)
    shares = torch.ones(4, 3, 5)
    boxes = torch.tensor([[2.0, 3, 8, 9], [2.4, 2.6, 8.6, 9.4], [4.6, 4.6, 5.4, 5.4], [20.0, 12, 20, 12]])
    masks = pasted(shares, boxes, frame)
    assert [full(mask) for mask in masks[:2]] == [(2, 3, 8, 9), (2, 3, 9, 9)]
    assert [mask.sum().item() for mask in masks] == [36, 42, 0, 0]


def test_equals_enlarging_whole_maps_where_the_scale_allows() -> None:
    torch.manual_seed(0)
    shares, frame = torch.rand(6, 8, 12), Frame(48, 32)
    boxes = torch.tensor([[0.0, 0, 48, 32]]).repeat(6, 1)
    expected = F.interpolate(shares[None], scale_factor=4, mode="bilinear", align_corners=False)[0] > 0.5
    assert torch.equal(pasted(shares, boxes, frame), expected)


@given(st.integers(0, 2**30), st.integers(1, 7), st.integers(2, 9))
def test_the_chunk_size_changes_nothing(seed: int, count: int, together: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(count, 6, 9, generator=generator)
    corner = torch.rand(count, 2, generator=generator) * 30
    size = torch.rand(count, 2, generator=generator) * 30
    boxes = torch.cat([corner, (corner + size).clamp(max=31)], dim=1)
    frame = Frame(53, 31, (0.6, 0.7), (2.0, 1.0))
    assert torch.equal(pasted(shares, boxes, frame), pasted(shares, boxes, frame, together))


def test_nothing_gives_no_masks_of_the_right_size() -> None:
    assert pasted(torch.zeros(0, 6, 9), torch.zeros(0, 4), Frame(53, 31)).shape == (0, 31, 53)
