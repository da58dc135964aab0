import math

import pytest
import torch
from torch.nn import functional as F

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10 import Assignment


def assigned(image: list[int], anchor: list[int], score: list[float]) -> Assignment:
    return Assignment(
        torch.tensor(image), torch.tensor(anchor), torch.arange(len(image)), torch.tensor(score)
    )


def build(weight: float = 1.0) -> torch.nn.Module:
    return MODELS.build({"type": "ibkd_mm.AssignedScoreLoss", "loss_weight": weight})


def test_value_by_hand() -> None:
    """Six scores of a half: each costs ln 2 whatever it should be."""
    logits = torch.zeros(1, 2, 3)
    loss = build(0.5)(logits, assigned([0], [2], [0.7]), torch.tensor([1]), torch.tensor(2.0))
    assert loss.item() == pytest.approx(0.5 * 6 * math.log(2) / 2)
    logits[0, 1, 2] = 2.0  # BCE(2, 0.7) = ln(1 + e^2) - 1.4
    loss = build()(logits, assigned([0], [2], [0.7]), torch.tensor([1]), torch.tensor(1.0))
    assert loss.item() == pytest.approx(5 * math.log(2) + math.log(1 + math.e**2) - 1.4)


def test_ignored_anchors_have_no_loss() -> None:
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    ignored_anchors = torch.tensor([[True, False, False]])
    positives = assigned([0], [2], [0.7])
    loss = build()(logits, positives, torch.tensor([1]), torch.tensor(1.0), ignored_anchors)
    assert loss.item() == pytest.approx(4 * math.log(2))
    loss.backward()
    assert logits.grad[0].tolist() == [[0, 0.5, 0.5], [0, 0.5, pytest.approx(-0.2)]]


def test_equals_cross_entropy_with_spread_targets_and_so_does_its_gradient() -> None:
    logits = torch.randn(3, 5, 40, dtype=torch.float64).mul(4).requires_grad_()
    image, anchor = torch.tensor([0, 0, 2]), torch.tensor([3, 39, 7])
    labels, score = torch.tensor([4, 0, 2]), torch.tensor([0.9, 0.0, 0.3], dtype=torch.float64)
    targets = torch.zeros_like(logits).index_put((image, labels, anchor), score)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / 7
    positives = Assignment(image, anchor, torch.arange(3), score)
    found = build()(logits, positives, labels, torch.tensor(7.0))
    assert found.item() == pytest.approx(expected.item(), rel=1e-7)
    gradients = [torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-8)
    assert torch.autograd.gradcheck(lambda z: build()(z, positives, labels, torch.tensor(7.0)), logits)


@pytest.mark.parametrize("value", [6e4, -6e4])
def test_extremes_of_half_precision_are_finite(value: float) -> None:
    logits = torch.full((1, 2, 4), value).requires_grad_()
    loss = build()(logits, assigned([0], [1], [1.0]), torch.tensor([0]), torch.tensor(1.0))
    loss.backward()
    wrong = 7 if value > 0 else 1  # all but the positive should be low, and the positive high
    assert loss.item() == pytest.approx(6e4 * wrong)
    assert logits.grad.isfinite().all()
