from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from ibkd_mm.engine import ResumableRunner
from ibkd_mm.engine.optim import merge_groups
from ibkd_mm.errors import UserError


def build(model: nn.Module, constructor: str | None) -> torch.optim.Optimizer:
    config = {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5},
        "paramwise_cfg": {
            "norm_decay_mult": 0.0,
            "bias_decay_mult": 0.0,
            "custom_keys": {"3": {"lr_mult": 0.1, "betas": [0.5, 0.9]}},
        },
    }
    if constructor:
        config["constructor"] = constructor
    wrapper = build_optim_wrapper(model, config)
    optimizer: torch.optim.Optimizer = wrapper.optimizer
    return optimizer


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2))


def test_a_group_for_each_kind_of_setting() -> None:
    model = small()
    optimizer = build(model, "ibkd_mm.FewGroupsConstructor")
    found = [
        (group["lr"], group["weight_decay"], tuple(group["betas"]), len(group["params"]))
        for group in optimizer.param_groups
    ]
    assert found == [
        (0.1, 0.5, (0.9, 0.999), 2),  # two weights
        (0.1, 0.0, (0.9, 0.999), 4),  # their biases, and the norm
        (0.1 * 0.1, 0.5, (0.5, 0.9), 2),  # all of the last layer
    ]
    kept = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert kept == {id(one) for one in model.parameters()}


def test_steps_are_those_of_a_group_for_every_parameter() -> None:
    one, other = small(), small()
    optimizers = [build(one, "ibkd_mm.FewGroupsConstructor"), build(other, None)]
    assert [len(each.param_groups) for each in optimizers] == [3, 8]
    inputs = torch.randn(6, 3)
    for _ in range(3):
        for model, optimizer in zip((one, other), optimizers, strict=True):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)


def test_frozen_parameters_are_left_out() -> None:
    model = small()
    model[2].requires_grad_(False)
    optimizer = build(model, "ibkd_mm.FewGroupsConstructor")
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6


def test_equal_settings_in_any_order_are_one_group() -> None:
    groups = [
        {"params": ["a"], "lr": 1.0, "betas": [0.9]},
        {"params": ["b"]},
        {"betas": [0.9], "lr": 1.0, "params": ["c"]},
    ]
    assert merge_groups(groups) == [{"params": ["a", "c"], "lr": 1.0, "betas": [0.9]}, {"params": ["b"]}]


def test_the_runner_makes_few_groups_unless_told_otherwise(
    toy: Callable[..., ResumableRunner], tmp_path: Path
) -> None:
    adam = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5}
    paramwise = {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0}
    for more, count in (({}, 2), ({"constructor": "DefaultOptimWrapperConstructor"}, 6)):
        runner = toy(tmp_path, 1, optim={"optimizer": adam, "paramwise_cfg": paramwise, **more})
        optimizer = runner.build_optim_wrapper(runner.optim_wrapper).optimizer
        assert len(optimizer.param_groups) == count


def test_what_two_modules_share_is_stepped_once() -> None:
    layer = nn.Linear(2, 2)
    model = nn.ModuleDict({"one": nn.Sequential(layer), "other": nn.Sequential(layer)})
    (group,) = build(model, "ibkd_mm.FewGroupsConstructor").param_groups[:1]
    assert [id(each) for each in group["params"]] == [id(layer.weight)]


def test_an_optimizer_that_is_built_already_is_taken(
    toy: Callable[..., ResumableRunner], tmp_path: Path
) -> None:
    runner = toy(tmp_path, 1)
    given = torch.optim.SGD(runner.model.parameters(), lr=0.1)
    assert runner.build_optim_wrapper({"type": "OptimWrapper", "optimizer": given}).optimizer is given


def test_a_checkpoint_with_a_group_for_every_parameter_is_refused_with_the_way_out(
    toy: Callable[..., ResumableRunner], tmp_path: Path
) -> None:
    adam = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5}
    optim = {"optimizer": adam, "paramwise_cfg": {"norm_decay_mult": 0.0}}
    each = {**optim, "constructor": "DefaultOptimWrapperConstructor"}
    toy(tmp_path, 2, optim=each).train()
    with pytest.raises(UserError, match=r"optim_wrapper\.constructor=DefaultOptimWrapperConstructor"):
        toy(tmp_path, 4, optim=optim, resume=True).train()
    toy(tmp_path, 4, optim=each, resume=True).train()
