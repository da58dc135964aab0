"""A loss of maps over levels: by hand, and in float32 whatever the network runs in."""

import math

import pytest
import torch
from torch import Tensor, nn

from ibkd_mm.distill import BridgedFeatureLoss
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

DIVERGENCE = {"type": "mmrazor.ChannelWiseDivergence"}


def of_odds(*odds: float) -> Tensor:
    """A map of one channel and two places, of which the second has these odds to the first."""
    return torch.tensor([[0.0, math.log(one)] for one in odds])[:, None, None]


def test_a_value_by_hand_is_the_sum_over_levels_times_the_gain() -> None:
    """Teacher (1/2, 1/2), student (1/4, 3/4): half of ln 2 + ln(2/3); the other level is met."""
    student, teacher = [of_odds(3.0), of_odds(2.0)], [of_odds(1.0), of_odds(2.0)]
    found = BridgedFeatureLoss(DIVERGENCE, loss_weight=10.0)(student, teacher)
    assert found.item() == pytest.approx(10 * 0.5 * (math.log(2) + math.log(2 / 3)), rel=1e-5)


def test_levels_count_alike_whatever_their_size() -> None:
    small, large = torch.randn(2, 1, 3, 2, 2), torch.randn(2, 1, 3, 16, 16)
    inner = MODELS.build(DIVERGENCE)
    expected = inner(*small) + inner(*large)
    assert BridgedFeatureLoss(DIVERGENCE)([small[0], large[0]], [small[1], large[1]]).item() == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize("loss", [DIVERGENCE, {"type": "ibkd_mm.SyncedPKDLoss"}])
def test_zero_where_teacher_equals_student(loss: dict[str, str]) -> None:
    maps = [torch.randn(2, 3, size, size) for size in (8, 4)]
    assert BridgedFeatureLoss(loss)(maps, maps).item() == pytest.approx(0, abs=1e-6)


def test_gradcheck_of_the_loss_of_one_level() -> None:
    student, teacher = torch.randn(2, 2, 3, 3, 2, dtype=torch.double)
    inner = BridgedFeatureLoss(DIVERGENCE).loss
    assert torch.autograd.gradcheck(lambda own: inner(own, teacher), (student.requires_grad_(),))


@pytest.mark.parametrize("loss", [DIVERGENCE, {"type": "ibkd_mm.SyncedPKDLoss"}, {"type": "mmrazor.PKDLoss"}])
@pytest.mark.parametrize("scale", [1.0, 6e4])
def test_half_precision_is_widened_and_finite_at_its_extremes(loss: dict[str, str], scale: float) -> None:
    student, teacher = ((torch.rand(2, 3, 16, 16) * 2 - 1).mul(scale).half() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = BridgedFeatureLoss(loss)([student.requires_grad_()], [teacher])
    found.backward()
    assert found.dtype is torch.float32
    assert found.isfinite()
    assert found > 0
    assert student.grad is not None
    assert student.grad.isfinite().all()


class Product(nn.Module):
    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:  # noqa: N803
        """Multiply matrices, which autocast would do in half precision."""
        return (preds_S @ preds_T).sum()


def test_the_loss_of_a_level_is_computed_in_float32_under_autocast() -> None:
    level = BridgedFeatureLoss(DIVERGENCE)
    level.loss = Product()
    student, teacher = torch.rand(2, 1, 1, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = level([student], [teacher])
    assert found.dtype is torch.float32
    assert found.item() == pytest.approx((student.double() @ teacher.double()).sum().item(), rel=1e-6)


def test_as_many_levels_of_both() -> None:
    maps = [torch.zeros(1, 1, 2, 2)] * 3
    with pytest.raises(UserError, match="found 3 and 2"):
        BridgedFeatureLoss(DIVERGENCE)(maps, maps[:2])
