import sys

import pytest
import torch
from mmcv.ops import SigmoidFocalLoss, sigmoid_focal_loss
from torch.autograd import gradcheck

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def plain_focal_loss(logits, target, gamma, alpha):
    """(N, C) losses; the label C is background."""
    p = logits.sigmoid()
    loss = torch.zeros_like(p)
    for n, label in enumerate(target.tolist()):
        for c in range(p.shape[1]):
            if c == label:
                loss[n, c] = -alpha * (1 - p[n, c]) ** gamma * p[n, c].log()
            else:
                loss[n, c] = -(1 - alpha) * p[n, c] ** gamma * (1 - p[n, c]).log()
    return loss


def inputs():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    return logits, torch.tensor([0, 2, 1, 3, 2])


@pytest.fixture
def through_mmcv(portable, monkeypatch):
    """mmcv's own entry, on the portable operators: compiled mmcv has this operator for GPUs only."""
    monkeypatch.setattr(sys.modules["mmcv.ops.focal_loss"], "ext_module", portable)
    return sigmoid_focal_loss


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_loss_and_gradient_are_those_of_the_formula(through_mmcv, gamma, alpha):
    logits, target = inputs()
    leaf = logits.clone().requires_grad_()
    expected = plain_focal_loss(leaf, target, gamma, alpha)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), leaf)
    loss = through_mmcv(leaf, target, gamma, alpha, None, "none")
    torch.testing.assert_close(loss, expected.detach())
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    torch.testing.assert_close(gradient, expected_gradient)


def test_a_hand_computed_value(through_mmcv):
    # p = 1/2: the positive costs 1/4 * 1/4 * ln 2, the negative 3/4 * 1/4 * ln 2
    loss = through_mmcv(torch.zeros(1, 2), torch.tensor([0]), 2.0, 0.25, None, "none")
    torch.testing.assert_close(loss, torch.tensor([[1.0, 3.0]]) / 16 * torch.log(torch.tensor(2.0)))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gradcheck(through_mmcv, reduction):
    logits, target = inputs()
    function = lambda x: through_mmcv(x, target, 2.0, 0.25, None, reduction)  # noqa: E731
    assert gradcheck(function, (logits.requires_grad_(),))


def test_labels_weigh_as_told_and_background_weighs_one(through_mmcv):
    logits, target = inputs()
    weight = torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64)
    plain = through_mmcv(logits, target, 2.0, 0.25, None, "none")
    weighted = through_mmcv(logits, target, 2.0, 0.25, weight, "none")
    factors = torch.tensor([2.0, 0.5, 3.0, 1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weighted, plain * factors[:, None])


def test_certain_logits_stay_finite(through_mmcv):
    logits = torch.tensor([[200.0, -200.0]]).requires_grad_()
    loss = through_mmcv(logits, torch.tensor([1]), 2.0, 0.25, None, "sum")
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_only_rounds_the_result(through_mmcv):
    logits, target = inputs()
    half = logits.half()
    exact = through_mmcv(half.float(), target, 2.0, 0.25, None, "none")
    assert torch.equal(through_mmcv(half, target, 2.0, 0.25, None, "none"), exact.half())


def test_no_samples_cost_nothing(through_mmcv):
    logits = torch.empty(0, 3, requires_grad=True)
    through_mmcv(logits, torch.empty(0, dtype=torch.long), 2.0, 0.25, None, "sum").backward()
    assert logits.grad.shape == (0, 3)


@cuda
def test_a_gpu_gives_the_formula_too():
    logits, target = inputs()
    layer = SigmoidFocalLoss(gamma=2.0, alpha=0.25, reduction="sum").cuda()
    expected = plain_focal_loss(logits, target, 2.0, 0.25).sum().float()
    torch.testing.assert_close(layer(logits.float().cuda(), target.cuda()).cpu(), expected)
