"""What a share of the teacher's map and a share of the student's make, worked out by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ibkd_mm.methods.ibkd import BifocalAttention

STUDENT = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
TEACHER = torch.tensor([5.0, 1.0, 9.0]).reshape(1, 1, 1, 3)
# of mean 0 and deviation 1, with n - 1 under the sum of squares
STANDARD = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([0.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(0.0, [-1.0, 0.0, 1.0]), (1.0, [0.0, -1.0, 1.0]), (0.25, [-0.75, -0.25, 1.0]), (0.5, [-0.5, -0.5, 1.0])],
)
def test_a_fixed_share_is_of_standardised_maps(alpha: float, expected: list[float]) -> None:
    fuse = BifocalAttention(alpha)
    (fused,) = fuse([STUDENT], [TEACHER])
    torch.testing.assert_close(fused.flatten(), torch.tensor(expected), atol=1e-5, rtol=0)
    assert not list(fuse.parameters())


def test_a_gate_that_is_undecided_takes_half_of_each() -> None:
    fuse = gated(BifocalAttention(), weight=[0.0, 0.0], bias=0.0)
    torch.testing.assert_close(fuse([STUDENT], [TEACHER]), BifocalAttention(0.5)([STUDENT], [TEACHER]))


def test_a_gate_decides_at_each_place_by_both_maps() -> None:
    # 2 * teacher - student + 1 is 2, -1 and 2
    fuse = gated(BifocalAttention(), weight=[2.0, -1.0], bias=1.0)
    (fused,) = fuse([STUDENT], [TEACHER])
    share = torch.tensor([2.0, -1.0, 2.0]).sigmoid()
    expected = share * STANDARD[1] + (1 - share) * STANDARD[0]
    torch.testing.assert_close(fused.flatten(), expected, atol=1e-5, rtol=0)


def gated(fuse: BifocalAttention, weight: list[float], bias: float) -> BifocalAttention:
    """Give the gate of a level with a channel its parameters; the first call makes it."""
    fuse([STUDENT], [TEACHER])
    (gate,) = fuse.gates
    with torch.no_grad():
        gate.weight.copy_(torch.tensor(weight).reshape(1, 2, 1, 1))
        gate.bias.fill_(bias)
    return fuse


def levels(scale: float = 1.0) -> list[Tensor]:
    return [scale * torch.randn(2, channels, side, side) for channels, side in ((4, 6), (8, 3))]


def test_every_level_has_a_gate_of_its_own_which_the_first_call_makes() -> None:
    fuse = BifocalAttention()
    student, teacher = levels(), levels()
    fused = fuse(student, teacher)
    assert [each.shape for each in fused] == [each.shape for each in teacher]
    assert [sum(one.numel() for one in gate.parameters()) for gate in fuse.gates] == [9, 17]
    made = list(fuse.parameters())
    fuse(student, teacher)
    assert [id(one) for one in fuse.parameters()] == [id(one) for one in made]


def test_gates_and_the_student_learn() -> None:
    fuse, student, teacher = BifocalAttention(), levels(), levels()
    for each in student:
        each.requires_grad_()
    sum(each.square().mean() for each in fuse(student, teacher)).backward()
    for one in [*fuse.parameters(), *student]:
        assert one.grad.abs().sum() > 0


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_neither_scale_nor_shift_of_a_channel_matters(alpha: float | None) -> None:
    fuse, student, teacher = BifocalAttention(alpha), levels(), levels()
    expected = fuse(student, teacher)
    found = fuse([7 * each + 3 for each in student], [0.2 * each - 5 for each in teacher])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [torch.zeros_like, lambda like: torch.full_like(like, 6e4)])
def test_maps_without_contrast_and_large_ones_give_finite_values(make: Callable[[Tensor], Tensor]) -> None:
    flat = [make(each) for each in levels()]
    assert all(each.isfinite().all() for each in BifocalAttention()(flat, flat))


def test_levels_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        BifocalAttention(0.5)(levels(), levels()[:1])


def test_both_of_its_names_are_registered() -> None:
    from ibkd_mm.registry import MODELS

    assert {type(MODELS.build({"type": f"ibkd_mm.{name}"})) for name in ("BAI", "BifocalAttention")} == {
        BifocalAttention
    }
    assert isinstance(MODELS.build({"type": "ibkd_mm.BAI", "alpha": None}).gates, nn.ModuleList)
