"""Maps compared where the fused ones attend, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from ibkd_mm.methods.ibkd import AttentionLoss
from ibkd_mm.methods.ibkd.bifocal import attention


def row(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def maps(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(2, 3, 4, 5, dtype=dtype)


def test_a_difference_counts_as_much_as_its_place_is_attended_to() -> None:
    # standardised: -1, 0, 1 and 0, -1, 1, of which the squared difference is 1, 1, 0; magnitudes over the
    # temperature are 0, ln 2 and 0: shares of 1/4, 1/2, 1/4 of three places
    loss = AttentionLoss(temperature=0.5, loss_weight=8.0)
    found = loss([row(1, 2, 3)], [row(5, 1, 9)], [row(0, -math.log(2) / 2, 0)])
    assert found.item() == pytest.approx(8 * (3 / 4 + 3 / 2) / 3 / 2, abs=1e-4)


def test_where_all_is_attended_to_alike_it_is_half_the_mean_squared_difference() -> None:
    found = AttentionLoss()([row(1, 2, 3)], [row(5, 1, 9)], [row(4, 4, -4)])
    assert found.item() == pytest.approx(2 / 3 / 2, abs=1e-4)


def test_attention_is_one_on_average_in_each_picture() -> None:
    found = attention(10 * maps(), 0.5)
    assert found.shape == (2, 4, 5)
    torch.testing.assert_close(found.mean((1, 2)), torch.ones(2))
    assert found.max() > 2


def test_attention_is_sharper_where_the_temperature_is_lower() -> None:
    peaks = [attention(maps(), heat).max().item() for heat in (4.0, 1.0, 0.25)]
    assert peaks == sorted(peaks)
    assert peaks[0] < 2 * peaks[0] < peaks[2]


def test_maps_that_agree_but_for_scale_and_shift_cost_nothing() -> None:
    student = maps()
    teacher = student * torch.tensor([0.1, 3.0, 40.0])[:, None, None] + 7
    assert AttentionLoss()([student], [teacher], [maps(1)]).item() == pytest.approx(0, abs=1e-8)


def test_levels_are_averaged() -> None:
    first, second = ([maps(seed)] for seed in (1, 2))
    fused = [maps(3)]
    loss = AttentionLoss(loss_weight=3.0)
    alone = [loss(each, [maps(4)], fused) for each in (first, second)]
    both = loss(first + second, [maps(4)] * 2, fused * 2)
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)


def test_attention_is_a_weight_and_learns_nothing() -> None:
    student, fused = maps().requires_grad_(), maps(1).requires_grad_()
    AttentionLoss()([student], [maps(2)], [fused]).backward()
    assert fused.grad is None
    assert student.grad.abs().sum() > 0


def test_its_gradient_is_the_derivative() -> None:
    student = maps(dtype=torch.float64).requires_grad_()
    teacher, fused = maps(1, torch.float64), maps(2, torch.float64)
    assert torch.autograd.gradcheck(lambda own: AttentionLoss()._level(own, teacher, fused), student)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_extremes_stay_finite(dtype: torch.dtype) -> None:
    wild = (maps().sign() * 6e4).to(dtype).requires_grad_()
    flat = torch.zeros_like(wild)
    for student, teacher, fused in ((wild, flat, wild), (wild, -wild, flat), (wild, wild, wild)):
        loss = AttentionLoss()([student], [teacher], [fused])
        assert loss.dtype == torch.float32
        (gradient,) = torch.autograd.grad(loss, wild)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_autocast_changes_nothing() -> None:
    given = [maps()], [maps(1)], [maps(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = AttentionLoss()(*given)
    assert torch.equal(found, AttentionLoss()(*given))
