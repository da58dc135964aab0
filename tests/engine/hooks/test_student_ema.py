"""The average moves as worked out by hand, over what is trained and nothing else."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import distributed, nn

from ibkd_mm.engine import StudentEMAHook
from ibkd_mm.engine.hooks.student_ema import trained_entries
from ibkd_mm.errors import UserError


class _OneWeight:
    """A weight of 1 that falls by 1 a step, under the hook, without a training around it."""

    def __init__(self, **settings: Any) -> None:
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
        self.runner: Any = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0)
        self.hook = StudentEMAHook(**settings)
        self.hook.before_train(self.runner)

    def step(self, gradient: float | None = 1.0) -> float:
        model = self.runner.model
        model.weight.grad = None if gradient is None else torch.full((1, 1), gradient)
        self.runner.optim_wrapper.step()
        self.hook.after_train_iter(self.runner)
        checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
        self.hook.before_save_checkpoint(self.runner, checkpoint)
        return float(checkpoint["state_dict"]["weight"])


def test_three_updates_are_those_worked_out_by_hand() -> None:
    # The weight is 0, -1, -2; half of it and half of the average: 1/2 * 1, 1/4 - 1/2, -1/8 - 1.
    falling = _OneWeight(decay=0.5, warmup=0)
    assert [falling.step() for _ in range(3)] == [0.5, -0.25, -1.125]


def test_the_decay_rises_as_one_minus_exp() -> None:
    falling = _OneWeight(decay=0.8, warmup=2)
    first, second, third = (0.8 * (1 - math.exp(-step / 2)) for step in (1, 2, 3))
    expected = [first]
    expected.append(second * expected[0] - (1 - second))
    expected.append(third * expected[1] - 2 * (1 - third))
    assert [falling.step() for _ in range(3)] == pytest.approx(expected, abs=1e-6)


def test_a_step_without_gradients_is_none() -> None:
    falling = _OneWeight(decay=0.5, warmup=0)
    assert [falling.step(gradient) for gradient in (1.0, None, 1.0)] == [0.5, 0.5, -0.25]
    assert falling.hook.updates == 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_gradient_scaler_leaves_out_is_none(fused: bool) -> None:
    falling = _OneWeight(decay=0.5, warmup=0)
    weight, scaler = falling.runner.model.weight, torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer = torch.optim.SGD([weight], lr=1.0, fused=fused)
    falling.runner.optim_wrapper = OptimWrapper(optimizer)
    falling.hook.before_train(falling.runner)
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        falling.hook.after_train_iter(falling.runner)
    assert falling.hook.updates == 2
    assert falling.step(None) == -0.25


def test_the_wrapper_of_several_processes_is_looked_through(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.Linear(2, 1)
        wrapped = MMDistributedDataParallel(module=model)
        wrapper = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=1.0))
        runner: Any = SimpleNamespace(model=wrapped, optim_wrapper=wrapper, iter=0)
        hook = StudentEMAHook(decay=0.5, warmup=0)
        hook.before_train(runner)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        wrapper.update_params(wrapped(torch.ones(1, 2)).sum())  # every weight falls by 1
        hook.after_train_iter(runner)
        checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
        hook.before_save_checkpoint(runner, checkpoint)
        for name in ("weight", "bias"):
            torch.testing.assert_close(checkpoint["state_dict"][name], before[name] - 0.5)
            torch.testing.assert_close(checkpoint["raw_state_dict"][name], before[name] - 1)
    finally:
        distributed.destroy_process_group()


def test_updates_equal_those_of_mmdet_from_the_second_on() -> None:
    # The first one differs: there the average is set to the weights, here it moves from where it began.
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    theirs = ExpMomentumEMA(model, momentum=0.01, gamma=5, update_buffers=True)
    theirs.update_parameters(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    runner: Any = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0)
    ours = StudentEMAHook(decay=0.99, warmup=5)
    ours.before_train(runner)
    ours.updates = 1
    for _ in range(4):
        wrapper.update_params(model(torch.randn(3, 1, 2, 2)).square().sum())
        ours.after_train_iter(runner)
        theirs.update_parameters(model)
    checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
    ours.before_save_checkpoint(runner, checkpoint)
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(checkpoint["state_dict"][name], value, atol=1e-6, rtol=1e-6)
            assert not torch.equal(value, model.state_dict()[name]), name


class _Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).requires_grad_(False)
        self.body = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.plain_norm = nn.BatchNorm2d(2, affine=False)
        self.head = nn.Conv2d(2, 2, 1, bias=False)
        self.tied = nn.Conv2d(2, 2, 1, bias=False)
        self.tied.weight = self.head.weight
        self.register_buffer("anchors", torch.ones(2))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.teacher = [nn.Conv2d(1, 1, 1)]


def test_what_is_trained_is_averaged_and_nothing_else() -> None:
    model = _Parts()
    assert list(trained_entries(model)) == [
        "body.0.weight",
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "body.1.running_mean",
        "body.1.running_var",
        "head.weight",
        "tied.weight",
    ]
    assert trained_entries(model)["body.1.running_var"] is model.body[1].running_var


def test_weights_with_two_names_are_averaged_once() -> None:
    model = _Parts()
    nn.init.ones_(model.head.weight)
    wrapper = OptimWrapper(torch.optim.SGD([model.head.weight], lr=1.0))
    runner: Any = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0)
    hook = StudentEMAHook(decay=0.5, warmup=0)
    hook.before_train(runner)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    wrapper.step()
    hook.after_train_iter(runner)
    checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
    hook.before_save_checkpoint(runner, checkpoint)
    for name in ("head.weight", "tied.weight"):
        assert torch.equal(checkpoint["state_dict"][name], torch.full((2, 2, 1, 1), 0.5))
        assert torch.equal(checkpoint["raw_state_dict"][name], torch.zeros(2, 2, 1, 1))


def test_a_model_of_which_nothing_is_trained_is_refused() -> None:
    model = nn.Linear(1, 1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(UserError, match="finds nothing to average"):
        StudentEMAHook().before_train(
            SimpleNamespace(model=model.requires_grad_(False), optim_wrapper=wrapper)
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, "a decay from 0 to below 1"),
        ({"warmup": -1}, "a warmup of at least 0 steps"),
        ({"evaluate": "ena"}, "found 'ena'. Did you mean 'ema'?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        StudentEMAHook(**settings)
    assert message in str(error.value)
