"""Pearson correlation of maps: mmrazor's on one process, and the same on several."""

import math

import pytest
import torch
from mmrazor.models.losses import PKDLoss
from torch import Tensor

from ibkd_mm.distill import SyncedPKDLoss
from ibkd_mm.registry import MODELS


def maps(batch: int = 2, size: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, batch, 4, size, size, dtype=dtype)
    return (student * 3 - 1).requires_grad_(), teacher + 5


def test_a_value_by_hand() -> None:
    """Standardised by a deviation of n - 1 = 2: (-1, 0, 1) and (-1, 1, 0) differ by (0, 1, 1)."""
    student = torch.tensor([10.0, 20.0, 30.0]).reshape(1, 1, 1, 3)
    teacher = torch.tensor([0.0, 0.2, 0.1]).reshape(1, 1, 1, 3)
    assert SyncedPKDLoss()(student, teacher).item() == pytest.approx(2 / 3 / 2, rel=1e-4)


@pytest.mark.parametrize("size", [6, 9])
def test_equals_that_of_mmrazor_on_one_process_and_so_does_its_gradient(size: int) -> None:
    student, _ = maps()
    teacher = maps(size=size)[1]
    mine, theirs = (loss(loss_weight=2.0)(student, teacher) for loss in (SyncedPKDLoss, PKDLoss))
    assert mine.item() == pytest.approx(theirs.item(), abs=1e-6)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (mine, theirs)]
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_maps_are_one_batch_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, whose sums are those of both halves; `all_reduce` itself is gloo's to test."""
    loss, whole = SyncedPKDLoss(), maps(batch=4)[0]
    expected = PKDLoss().norm(whole)[:2]
    centred = whole[2:] - whole.mean((0, 2, 3), keepdim=True)
    places = torch.tensor(float(whole[2:, 0].numel()))
    sums = whole[2:].sum((0, 2, 3), keepdim=True), centred.square().sum((0, 2, 3), keepdim=True)
    others = iter([places, *sums])
    monkeypatch.setattr("ibkd_mm.distill.losses.standardise.get_world_size", lambda: 2)
    monkeypatch.setattr("ibkd_mm.distill.losses.standardise.all_reduce", lambda own: own + next(others))
    torch.testing.assert_close(loss.norm(whole[:2]), expected, atol=1e-5, rtol=1e-5)


def test_processes_may_have_maps_of_other_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's of 3 x 3 beside ours of 8 x 8: the mean and deviation of all places together."""
    own, other = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 3, 3) + 5
    channels = torch.cat([each.transpose(0, 1).flatten(1) for each in (own, other)], dim=1)
    mean, deviation = (each[None, :, None, None] for each in (channels.mean(1), channels.std(1)))
    squares = (other - mean).square().sum((0, 2, 3), keepdim=True)
    others = iter([torch.tensor(18.0), other.sum((0, 2, 3), keepdim=True), squares])
    monkeypatch.setattr("ibkd_mm.distill.losses.standardise.get_world_size", lambda: 2)
    monkeypatch.setattr("ibkd_mm.distill.losses.standardise.all_reduce", lambda sums: sums + next(others))
    found = SyncedPKDLoss().norm(own)
    torch.testing.assert_close(found, (own - mean) / deviation, atol=1e-5, rtol=1e-5)


def test_zero_where_one_is_the_other_scaled_and_shifted() -> None:
    student, _ = maps()
    assert SyncedPKDLoss()(student, student).item() == 0.0
    assert SyncedPKDLoss()(student, student * 7 + 2).item() == pytest.approx(0, abs=1e-6)
    assert SyncedPKDLoss()(student, -student).item() == pytest.approx(2, rel=0.02)


def test_gradcheck() -> None:
    student, teacher = maps(size=3, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda own: SyncedPKDLoss()(own, teacher), (student,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mean", [0.0, 1.0, 100.0])
def test_large_maps_of_any_layout_are_standardised_exactly(layout: torch.memory_format, mean: float) -> None:
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(8, 4, 128, 128, generator=draw, dtype=torch.double) + mean
    given = exact.float().to(memory_format=layout)
    found = SyncedPKDLoss().norm(given)
    apart = (found - SyncedPKDLoss().norm(given.double())).abs().max()
    assert apart < 2e-6 + 1e-6 * mean


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("constant", [0.1, 1.7, 30.0, 6e4])
def test_a_channel_that_is_the_same_everywhere_stays_small(
    layout: torch.memory_format, constant: float
) -> None:
    """What rounding leaves of it is divided by a deviation of nearly 0."""
    given = torch.full((8, 3, 20, 20), constant).to(memory_format=layout)
    mean = given.sum((0, 2, 3)) / given[:, 0].numel()
    left = (given[0, :, 0, 0] - mean).abs().max().item()
    assert SyncedPKDLoss().norm(given).abs().max() <= left / 1e-6 * 1.01


def test_a_channel_that_is_the_same_everywhere_has_a_finite_gradient() -> None:
    student, teacher = maps()
    dead = student.detach().clone()
    dead[:, 1] = 0.0
    dead.requires_grad_()
    loss = SyncedPKDLoss()(dead, teacher)
    loss.backward()
    assert loss.isfinite()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


def test_a_map_of_one_place_is_no_loss_and_no_gradient() -> None:
    student = torch.randn(1, 4, 1, 1, requires_grad=True)
    loss = SyncedPKDLoss()(student, torch.randn(1, 4, 1, 1))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None
    assert not student.grad.any()


def test_extremes_of_half_precision_are_finite() -> None:
    student, teacher = ((torch.rand(2, 3, 32, 32) * 6e4).half() for _ in range(2))
    loss = SyncedPKDLoss()(student.requires_grad_(), teacher)
    loss.backward()
    assert loss.item() == pytest.approx(PKDLoss()(student.double(), teacher.double()).item(), rel=1e-3)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert math.isfinite(loss.item())


def test_it_is_built_by_name() -> None:
    assert isinstance(MODELS.build({"type": "ibkd_mm.SyncedPKDLoss"}), SyncedPKDLoss)
