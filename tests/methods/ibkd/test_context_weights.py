"""Weights of pictures: a value by hand, a mean of one, and nothing to weigh."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ibkd_mm.methods.ibkd import ContextWeights
from ibkd_mm.methods.ibkd.context_weights import complexity
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10 import GroundTruth

SIDE = 8


def squares(*places: tuple[int, int, int]) -> Tensor:
    """Masks of squares, each by its top, left and side in cells."""
    masks = torch.zeros(len(places), SIDE, SIDE)
    for mask, (top, left, side) in zip(masks, places, strict=True):
        mask[top : top + side, left : left + side] = 1
    return masks


@pytest.fixture
def scene(truth: Callable[..., GroundTruth]) -> GroundTruth:
    """Two overlapping squares in the first picture, nothing in the second, one in the third."""
    return truth([0, 0, 2], squares((2, 2, 4), (0, 0, 4), (1, 1, 3)))


def many(count: int) -> float:
    return math.log(1 + count) / math.log(21)


# 16 cells with 4 inside, and 16 with 9, since the picture's border is no edge; boxes share 4 of 28 cells
FIRST = 0.5 * many(2) + 0.25 * (32 - 4 - 9) / 32 + 0.25 * 4 / 28
# 9 cells with 1 inside
THIRD = 0.5 * many(1) + 0.25 * 8 / 9


def test_complexity_by_hand(scene: GroundTruth) -> None:
    assert complexity(scene, 3).tolist() == pytest.approx([FIRST, 0.0, THIRD], rel=1e-5)


def test_weights_by_hand_have_a_mean_of_one(scene: GroundTruth) -> None:
    trust = torch.tensor([0.9, 0.0, 0.4])
    raw = [(0.5 + FIRST) * 0.9, 0.0, (0.5 + THIRD) * 0.4]
    found = torch.tensor([2, 0, 1])
    weights = ContextWeights()(scene, trust, found)
    mean = (2 * raw[0] + raw[2]) / 3
    assert weights.tolist() == pytest.approx([one / mean for one in raw], rel=1e-5)
    assert (weights * found).sum().item() == pytest.approx(3.0)


def test_weights_have_a_mean_of_one_over_all_processes(
    scene: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process found three instances more, in pictures whose sum of weights is 1.5."""
    other, found = torch.tensor([1.5, 3.0]), torch.tensor([2, 0, 1])
    monkeypatch.setattr("ibkd_mm.methods.ibkd.context_weights.reduce_mean", lambda sums: (sums + other) / 2)
    trust = torch.tensor([0.9, 0.0, 0.4])
    weights = ContextWeights()(scene, trust, found)
    raw = (0.5 + complexity(scene, 3)) * trust
    scale = 6 / ((raw * found).sum() + 1.5)
    assert weights.tolist() == pytest.approx((raw * scale).tolist(), rel=1e-5)


@pytest.mark.parametrize("trust", [[0.0, 0.0, 0.0], [0.0, 1e-30, 0.0]])
def test_without_trust_weights_are_zero_and_finite(scene: GroundTruth, trust: list[float]) -> None:
    weights = ContextWeights()(scene, torch.tensor(trust), torch.tensor([2, 0, 1]))
    assert weights.isfinite().all()
    assert weights.max() < 1e-9


def test_a_batch_without_instances_is_not_complex_and_weighs_by_trust(
    truth: Callable[..., GroundTruth],
) -> None:
    nothing = truth([], squares())
    assert complexity(nothing, 2).tolist() == [0.0, 0.0]
    none = torch.zeros(2, dtype=torch.long)
    assert ContextWeights()(nothing, torch.zeros(2), none).tolist() == [0.0, 0.0]
    found = ContextWeights()(nothing, torch.tensor([0.6, 0.2]), none + 1)
    assert found.tolist() == pytest.approx([1.5, 0.5])


def test_a_crowd_that_is_all_edge_and_overlap_is_at_most_one(truth: Callable[..., GroundTruth]) -> None:
    """A picture of 200 alike, each of one cell: no more than the whole of each part."""
    crowd = truth([0] * 200 + [1], squares(*[(3, 3, 1)] * 200, (3, 3, 1)))
    assert complexity(crowd, 2).tolist() == pytest.approx([1.0, 0.5 * many(1) + 0.25], rel=1e-5)


def test_instances_of_other_pictures_do_not_overlap(truth: Callable[..., GroundTruth]) -> None:
    apart = complexity(truth([0, 1], squares((2, 2, 4), (2, 2, 4))), 2)
    together = complexity(truth([0, 0], squares((2, 2, 4), (2, 2, 4))), 2)
    assert apart.tolist() == pytest.approx([0.5 * many(1) + 0.25 * 12 / 16] * 2, rel=1e-5)
    assert together[0].item() == pytest.approx(0.5 * many(2) + 0.25 * 12 / 16 + 0.25, rel=1e-5)


def test_an_instance_of_less_than_half_a_cell_has_no_edge_to_speak_of(
    truth: Callable[..., GroundTruth],
) -> None:
    small = truth([0], squares((2, 2, 1)) / 4)
    assert complexity(small, 1).item() == pytest.approx(0.5 * many(1), rel=1e-5)


def test_it_is_built_by_name() -> None:
    assert isinstance(MODELS.build({"type": "ibkd_mm.ContextWeights"}), ContextWeights)
