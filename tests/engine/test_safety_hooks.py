"""Every training has the safety hooks; a config changes or removes one by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ibkd_mm.engine import BadSampleGuard, DataPositionHook, NonFiniteGuard, PreemptionHook, ResumableRunner
from ibkd_mm.engine.runner import SAFETY_HOOKS, with_safety_hooks

Toy = Callable[..., ResumableRunner]
CLASSES = (DataPositionHook, PreemptionHook, NonFiniteGuard, BadSampleGuard)


def safety_hooks(runner: Any) -> list[type]:
    return [type(hook) for hook in runner.hooks if isinstance(hook, CLASSES)]


def test_a_named_hook_keeps_the_settings_that_a_config_does_not_change() -> None:
    hooks = with_safety_hooks({"non_finite": {"patience": 3}, "logger": {"type": "LoggerHook"}})
    assert hooks["non_finite"] == {"type": "ibkd_mm.NonFiniteGuard", "patience": 3}
    assert hooks["bad_samples"] == SAFETY_HOOKS["bad_samples"]
    assert hooks["logger"] == {"type": "LoggerHook"}
    assert with_safety_hooks(hooks) == hooks


def test_none_removes_a_hook_and_a_built_one_replaces_it() -> None:
    guard = NonFiniteGuard(patience=2)
    hooks = with_safety_hooks({"non_finite": guard, "preemption": None})
    assert hooks["non_finite"] is guard
    assert hooks["preemption"] is None
    assert list(SAFETY_HOOKS) == ["data_position", "preemption", "non_finite", "bad_samples"]


@pytest.fixture
def plain_config(tmp_path: Path) -> Config:
    """A config as mmdet's `tools/train.py` reads it: our runner, and no `default_hooks`."""
    sampler = {"type": "DefaultSampler", "shuffle": False}
    text = f"""
custom_imports = dict(imports=['ibkd_mm.register_all'])
default_scope = 'mmengine'
runner_type = 'ibkd_mm.ResumableRunner'
model = dict(type='Wobbly')
train_dataloader = dict(dataset=dict(type='Noisy'), batch_size=4, num_workers=0, sampler={sampler})
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
work_dir = '{tmp_path}'
experiment_name = '{tmp_path.name}'
visualizer = dict(type='Visualizer', name='{tmp_path.name}')
log_level = 'ERROR'
"""
    (tmp_path / "plain.py").write_text(text)
    return Config.fromfile(tmp_path / "plain.py")


@pytest.mark.parametrize(
    ("default_hooks", "missing", "patience"),
    [
        (None, (), 10),
        ({"logger": {"type": "LoggerHook", "interval": 1}}, (), 10),
        ({"non_finite": {"patience": 3}}, (), 3),
        ({"preemption": None, "timer": None}, (PreemptionHook,), 10),
        ({"checkpoint": None, "distill_schedule": None}, (), 10),  # the second is another package's
    ],
)
def test_a_config_under_a_plain_training_script_has_the_hooks_too(
    plain_config: Config, default_hooks: Any, missing: tuple[type, ...], patience: int
) -> None:
    if default_hooks is not None:
        plain_config.default_hooks = default_hooks
    runner = RUNNERS.build(plain_config)  # what mmdet's tools/train.py does with a runner_type
    assert set(safety_hooks(runner)) == set(CLASSES) - set(missing)
    assert len(safety_hooks(runner)) == len(CLASSES) - len(missing)
    guard = next(hook for hook in runner.hooks if isinstance(hook, NonFiniteGuard))
    assert guard.patience == patience
    names = [type(hook).__name__ for hook in runner.hooks]
    assert ("WholeCheckpointHook" in names) == ("checkpoint" not in (default_hooks or {}))
    assert ("IterTimerHook" in names) == ("timer" not in (default_hooks or {}))
    runner.train()
    assert runner.iter == 2
