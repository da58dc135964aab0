import numpy as np
import pytest

from ibkd_mm.datasets.transforms.warp import (
    area_factor,
    chain,
    is_upright,
    map_boxes,
    rotate,
    shear,
    shift,
    stretch,
)

BOX = np.array([[1.0, 2, 5, 4]])


def test_the_first_map_given_is_applied_first() -> None:
    assert chain(stretch(2, 3), shift(10, 20)).tolist() == [[2, 0, 10], [0, 3, 20]]
    assert chain(shift(10, 20), stretch(2, 3)).tolist() == [[2, 0, 20], [0, 3, 60]]


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (shift(3, -2), [4, 0, 8, 2]),
        (stretch(2, 0.5), [2, 1, 10, 2]),
        (rotate(90), [-4, 1, -2, 5]),
        (shear(45, 0), [3, 2, 9, 4]),
        (chain(), [1, 2, 5, 4]),
    ],
)
def test_boxes_become_the_extents_of_their_corners(affine: np.ndarray, expected: list[float]) -> None:
    assert map_boxes(affine, BOX)[0] == pytest.approx(expected)


def test_no_boxes_stay_no_boxes() -> None:
    assert map_boxes(rotate(3), np.zeros((0, 4))).shape == (0, 4)


def test_areas_grow_by_the_determinant() -> None:
    assert area_factor(chain(stretch(2, 3), rotate(20), shift(7, 7))) == pytest.approx(6)


def test_a_turn_by_nothing_is_upright_to_the_bit() -> None:
    assert is_upright(chain(shift(1, 2), rotate(0), shear(0, 0), stretch(0.3, 0.7)))
    assert not is_upright(rotate(0.01))
    assert not is_upright(shear(0, 0.01))
