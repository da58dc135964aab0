import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ibkd_mm.datasets.transforms.warp import (
    Window,
    chain,
    extents,
    find_visible,
    rotate,
    shear,
    shift,
    stretch,
    warp,
    warp_mask,
    window_around,
    window_of_centres,
)

WIDE = Window(-1000, -1000, 1000, 1000)


def test_every_pixel_is_in_one_of_two_boxes_that_share_an_edge() -> None:
    for edge in (3.0, 3.2, 3.5, 3.7):
        left, right = (window_of_centres(np.array(box)) for box in ([0, 0, edge, 1], [edge, 0, 9, 1]))
        assert left.right == right.left
    assert window_of_centres(np.array([0.5, 0.51, 2.5, 2.49])) == (0, 1, 2, 2)
    assert window_around(np.array([0.5, 1.0, 2.5, 3.0])) == (0, 1, 3, 3)


@pytest.mark.parametrize("factor", [0.55, 0.8, 1.0, 1.7])
def test_a_scaled_image_is_opencvs(factor: float) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    source = cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC)
    width, height = round(80 * factor), round(60 * factor)
    found = warp(source, stretch(width / 80, height / 60), Window(0, 0, width, height))
    expected = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    assert np.abs(found.astype(int) - expected).max() <= 1
    if factor == 1.0:
        assert np.array_equal(found, source)


def test_a_window_is_a_part_of_the_whole() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    source = cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_CUBIC)
    affine = chain(rotate(10), stretch(1.3, 1.1), shift(3.3, 4.4))
    whole = warp(source, affine, Window(0, 0, 60, 60))
    part = Window(11, 7, 30, 41)
    assert np.abs(warp(source, affine, part).astype(int) - whole[part.pixels]).max() <= 1


def test_stripes_of_a_pixel_shrink_to_their_mean_and_not_to_stripes() -> None:
    source = np.zeros((64, 64, 3), np.uint8)
    source[:, ::2] = 200
    small = warp(source, stretch(0.25, 0.25), Window(0, 0, 16, 16))
    assert small.shape == (16, 16, 3)
    assert (small == 100).all()
    odd = warp(source, stretch(0.3, 0.3), Window(0, 0, 19, 19))  # a third would take each third column
    assert np.abs(odd.astype(int) - 100).max() <= 34


@pytest.mark.parametrize("affine", [stretch(0.01, 0.01), stretch(0.0001, 0.0001)])
def test_an_image_shrunk_to_nothing_has_a_colour_still(affine: np.ndarray) -> None:
    source = np.full((30, 7, 3), 77, np.uint8)
    assert (warp(source, affine, Window(0, 0, 1, 1)) == 77).all()


def test_what_is_seen_is_what_maps_back_into_the_image() -> None:
    window = Window(0, 0, 3, 2)
    assert find_visible(shift(1, 1), (9, 9), window).tolist() == [[False] * 3, [False, True, True]]
    quarter = chain(rotate(90), shift(2, 0))  # 2 x 1 becomes 1 x 2, its right edge at 2
    assert find_visible(quarter, (2, 1), window).tolist() == [[False, True, False]] * 2


@pytest.mark.parametrize("order", ["C", "F"])
def test_extents_of_masks_however_they_lie_in_memory(order: str) -> None:
    mask = np.zeros((6, 9), np.uint8, order=order)
    assert extents(mask).is_empty
    mask[2:4, 1:7] = 1
    assert extents(mask) == (1, 2, 7, 4)
    assert extents(np.zeros((20, 6, 9), np.uint8)[:, ::-1][0]).is_empty


def test_a_mask_under_whole_factors_is_repeated() -> None:
    mask = np.random.default_rng(1).integers(0, 2, (7, 9)).astype(np.uint8)
    place, pixels = warp_mask(mask, shift(5, 3), WIDE)
    whole = np.zeros((20, 20), bool)
    whole[place.pixels] = pixels
    assert np.array_equal(whole[3:10, 5:14], mask)
    assert whole.sum() == mask.sum()


def test_a_mask_at_the_edge_of_its_image_ends_there_and_is_not_worn_away() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[0:8, 12:20] = 1
    place, pixels = warp_mask(mask, stretch(1.5, 1.5), window_of_centres(np.array([0, 0, 30, 30])))
    whole = np.zeros((40, 40), bool)
    whole[place.pixels] = pixels
    assert whole[:12, 18:30].all()
    assert whole.sum() == 144


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(5, 55), st.floats(5, 55)), min_size=3, max_size=6),
    st.floats(0.55, 1.8),
    st.floats(-30, 30),
    st.floats(-10, 10),
    st.floats(0, 20),
)
def test_a_mapped_polygon_is_the_polygon_of_the_mapped_points(
    points: list[tuple[float, float]], factor: float, turn: float, slant: float, move: float
) -> None:
    """All but pixels along the outline; a box of the mapped pixels is one of the mapped points."""
    outline = cv2.convexHull(np.array(points, np.float32))[:, 0].astype(np.float64)
    assume(cv2.contourArea(outline.astype(np.float32)) > 20)
    turned = chain(shift(-30, -30), rotate(turn), shear(slant, 0), stretch(factor, factor))
    affine = chain(turned, shift(80 + move, 80 + move))
    mapped = outline @ affine[:, :2].T + affine[:, 2]
    exact = _filled(mapped, 180)
    around_it = np.linalg.norm(np.roll(mapped, 1, 0) - mapped, axis=1).sum()
    place, pixels = warp_mask(_filled(outline, 60), affine, Window(0, 0, 180, 180))
    whole = np.zeros((180, 180), np.uint8)
    if pixels.any():
        whole[place.pixels] = pixels
    assert (whole != exact).sum() <= 0.6 * max(factor, 1) * around_it + 2
    thick = cv2.erode(exact, np.ones((5, 5), np.uint8))  # corners may be finer than a pixel
    if thick.any():
        assert not (thick & ~whole).any()
        inner, found = np.array(extents(thick)), np.array(extents(whole))
        assert (found[:2] <= inner[:2]).all()
        assert (found[2:] >= inner[2:]).all()
        assert (found[:2] >= mapped.min(0) - 1 - factor / 2).all()
        assert (found[2:] <= mapped.max(0) + 1 + factor / 2).all()


def _filled(outline: np.ndarray, size: int) -> np.ndarray:
    """The pixels whose centres lie in a convex outline, of either turn."""
    grid = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    edges = np.roll(outline, -1, 0) - outline
    away = grid[..., None, :] - outline
    side = edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0]
    return ((side >= 0).all(-1) | (side <= 0).all(-1)).astype(np.uint8)
