"""Complete IoU by hand: IoU, less centre distance by enclosing diagonal, less the difference of aspects."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.box_loss import complete_iou

WIDE, TALL = (0.0, 0.0, 4.0, 2.0), (0.0, 0.0, 2.0, 4.0)
ASPECT = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
BY_HAND = [
    ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
    # overlap 1 of 7; centres 2 apart (squared), enclosed by 3 x 3
    ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7 - 2 / 18),
    # overlap 4 of 12; centres 2 apart, enclosed by 4 x 4; the aspects differ
    (WIDE, TALL, 1 / 3 - 2 / 32 - ASPECT * ASPECT / (1 - 1 / 3 + ASPECT)),
    # apart: centres 64 apart, enclosed by 10 x 2
    ((0, 0, 2, 2), (8, 0, 10, 2), -64 / 104),
]


@pytest.mark.parametrize(("box", "target", "value"), BY_HAND)
def test_values_by_hand(box: tuple, target: tuple, value: float) -> None:
    found = complete_iou(torch.tensor([box]).float(), torch.tensor([target]).float())
    assert found.item() == pytest.approx(value, abs=1e-6)


sides = st.tuples(*[st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50)])


def corners(side: tuple[float, ...]) -> torch.Tensor:
    x, y, width, height = side
    return torch.tensor([x, y, x + width, y + height], dtype=torch.float64)


@given(sides, sides, st.floats(0.1, 10), st.floats(-100, 100))
def test_neither_scale_nor_place_matters_nor_which_comes_first(
    one: tuple, other: tuple, scale: float, shift: float
) -> None:
    a, b = corners(one), corners(other)
    value = complete_iou(a, b)
    assert -1.5 <= value.item() <= 1
    assert complete_iou(b, a).item() == pytest.approx(value.item(), abs=1e-5)
    assert complete_iou(a * scale + shift, b * scale + shift).item() == pytest.approx(value.item(), abs=1e-5)


def test_loss_is_a_weighted_mean() -> None:
    loss = MODELS.build({"type": "ibkd_mm.CompleteIoULoss", "loss_weight": 7.5})
    boxes, targets, values = (list(part) for part in zip(*BY_HAND, strict=True))
    weight = torch.tensor([0.5, 1.0, 0.25, 2.0])
    found = loss(torch.tensor(boxes).float(), torch.tensor(targets).float(), weight, torch.tensor(3.0))
    expected = 7.5 * sum(w * (1 - v) for w, v in zip(weight.tolist(), values, strict=True)) / 3
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_gradient_draws_the_box_to_its_target() -> None:
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]], requires_grad=True)
    loss = MODELS.build({"type": "ibkd_mm.CompleteIoULoss", "loss_weight": 1.0})
    loss(box, torch.tensor([[5.0, 6.0, 9.0, 10.0]]), torch.ones(1), torch.tensor(1.0)).backward()
    assert (box.grad[0, 2:] < 0).all()  # growing to the right and down brings it nearer


@pytest.mark.parametrize("box", [(3, 3, 3, 3), (3, 3, 3, 9), (0, 0, 1e4, 1e-4)])
def test_a_box_without_area_has_finite_loss_and_gradient(box: tuple) -> None:
    boxes = torch.tensor([box]).float().requires_grad_()
    value = complete_iou(boxes, torch.tensor([[3.0, 3.0, 4.0, 4.0]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert boxes.grad.isfinite().all()
