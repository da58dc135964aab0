import numpy as np
import pytest

from ibkd_mm.datasets.transforms import MosaicAffine, PasteInstances
from ibkd_mm.datasets.transforms.mix import MixTransform


@pytest.mark.parametrize(
    ("transform", "count"), [(MosaicAffine((64, 64), prob=0.25), 3), (PasteInstances(prob=0.25), 1)]
)
def test_other_images_are_drawn_with_the_probability_until_closed(
    transform: MixTransform, count: int
) -> None:
    drawn = [transform.get_indexes(range(10)) for _ in range(2000)]
    assert {len(indices) for indices in drawn} == {0, count}
    assert sum(map(bool, drawn)) == pytest.approx(500, abs=80)
    assert {index for indices in drawn for index in indices} == set(range(10))
    transform.close()
    assert not any(transform.get_indexes(range(10)) for _ in range(100))


def test_with_probability_1_images_are_always_added() -> None:
    assert all(MosaicAffine((64, 64)).get_indexes(range(10)) for _ in range(100))


@pytest.mark.parametrize(
    ("box", "whole_area", "expected"),
    [
        ([0, 0, 4, 2], 80, True),  # just enough of everything
        ([0, 0, 4, 1.9], 0, False),  # side
        ([0, 0, 4, 2], 81, False),  # area
        ([0, 0, 9, 2], 0, False),  # aspect: 4.5
        ([3, 3, 3, 9], 0, False),  # no width
    ],
)
def test_too_small_a_rest_is_dropped(box: list[float], whole_area: float, expected: bool) -> None:
    transform = PasteInstances(min_side=2, min_area_share=0.1, max_aspect=4)
    assert transform.keeps(np.array(box), whole_area) == expected
