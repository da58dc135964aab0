"""The student's maps in the teacher's space."""

import pytest
import torch
from torch import nn

from ibkd_mm.methods.ibkd import ContextualFeatureBridge
from ibkd_mm.registry import MODELS

CHANNELS = [64, 128, 256, 64]


def maps(channels: list[int], sizes: list[int], batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, each, size, size + 1) for each, size in zip(channels, sizes, strict=True)]


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


@pytest.mark.parametrize("name", ["ContextualFeatureBridge", "CFB"])
def test_of_the_pyramid_and_the_mask_branch_it_has_134144_parameters(name: str) -> None:
    """Per level 256 C of the convolution and its 256, and twice 256 of the norm: 256 x 512 + 4 x 768."""
    bridge = MODELS.build({"type": f"ibkd_mm.{name}"})
    assert count(bridge) == 0
    found = bridge(maps(CHANNELS, [8, 4, 2, 16]), maps([256] * 4, [8, 4, 2, 16]))
    assert count(bridge) == 134_144
    assert all(each.requires_grad for each in bridge.parameters())
    assert [tuple(each.shape) for each in found] == [(2, 256, size, size + 1) for size in (8, 4, 2, 16)]


def test_a_level_is_a_convolution_of_one_place_and_a_norm() -> None:
    bridge = ContextualFeatureBridge(groups=2)
    student, teacher = maps([3], [4]), maps([4], [4])
    bridge(student, teacher)
    convolution, norm = bridge.levels[0]
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    mixed = torch.einsum("dc,bchw->bdhw", convolution.weight[:, :, 0, 0], student[0])
    grouped = (mixed + convolution.bias[:, None, None]).reshape(2, 2, -1)
    centred = grouped - grouped.mean(2, keepdim=True)
    scaled = (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).reshape(mixed.shape)
    expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(bridge(student, teacher)[0], expected, atol=1e-5, rtol=1e-5)


def test_sizes_that_differ_become_the_teachers() -> None:
    bridge = ContextualFeatureBridge(groups=1)
    student, teacher = maps([3, 3], [4, 8]), maps([4, 4], [8, 4])
    found = bridge(student, teacher)
    assert [each.shape for each in found] == [each.shape for each in teacher]
    same = bridge(student, maps([4, 4], [4, 8]))
    for each, own, other in zip(found, same, teacher, strict=True):
        torch.testing.assert_close(each, nn.functional.interpolate(own, other.shape[2:], mode="bilinear"))


def test_it_is_built_once_and_learns() -> None:
    bridge = ContextualFeatureBridge(groups=1)
    with torch.no_grad():  # as when the model is built
        bridge(maps([3], [4]), maps([4], [4]))
    before = list(bridge.parameters())
    bridge(maps([3], [8]), maps([4], [8]))[0].square().sum().backward()
    assert all(now is then for now, then in zip(bridge.parameters(), before, strict=True))
    assert all(each.grad is not None and each.grad.isfinite().all() for each in before)


def test_nothing_leads_back_to_the_teacher() -> None:
    bridge = ContextualFeatureBridge(groups=1)
    student, teacher = maps([3], [4])[0].requires_grad_(), maps([4], [8])[0].requires_grad_()
    bridge([student], [teacher])[0].sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_a_refinement_stands_behind_each_level_with_its_channels_filled_in() -> None:
    bridge = ContextualFeatureBridge(refine={"type": "mmrazor.MGDConnector", "lambda_mgd": 0.5})
    found = bridge(maps([16, 32], [4, 2]), maps([64, 32], [4, 2]))
    assert [type(level[2]).__name__ for level in bridge.levels] == ["MGDConnector"] * 2
    assert [level[2].generation[0].in_channels for level in bridge.levels] == [64, 32]
    assert [each.shape[1] for each in found] == [64, 32]
