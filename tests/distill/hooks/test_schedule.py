"""What a loss counts from step to step, worked out by hand."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS
from torch import nn

from ibkd_mm.distill import DistillScheduleHook
from ibkd_mm.distill.hooks.schedule import Schedule
from ibkd_mm.errors import UserError


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), {0: 1, 99: 1}),
        (Schedule(warmup=4), {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1, 99: 1}),
        (Schedule(warmup=0.1), {0: 0.1, 4: 0.5, 9: 1, 10: 1}),
        (Schedule(decay=60), {0: 1, 59: 1, 60: 1, 70: 0.75, 80: 0.5, 99: 0.025}),
        (Schedule(decay=0.6, to=0.5), {60: 1, 80: 0.75, 99: 1 - 0.5 * 39 / 40}),
        (Schedule(stop=0.3), {29: 1, 30: 0, 99: 0}),
        (Schedule(decay=20, to=0.2, stop=60), {19: 1, 20: 1, 40: 0.6, 59: 1 - 0.8 * 39 / 40, 60: 0, 99: 0}),
        # both at once: half risen, a quarter of the way down
        (Schedule(warmup=60, decay=19, stop=59), {18: 19 / 60, 29: 0.5 * 0.75, 59: 0}),
    ],
)
def test_the_factor_of_a_step_of_a_hundred(schedule: Schedule, expected: dict[int, float]) -> None:
    assert {step: schedule.factor(step, 100) for step in expected} == pytest.approx(expected)


@pytest.fixture
def runner(distilled: Callable) -> Any:
    return SimpleNamespace(model=distilled(), iter=0, max_iters=10, hooks=[])


def test_the_hook_sets_what_each_loss_counts_by_where_the_training_stands(runner: Any) -> None:
    hook = DistillScheduleHook({"all": {"warmup": 4}, "loss_instance": {"stop": 0.5}})
    hook.before_train(runner)
    found = {}
    for runner.iter in (0, 3, 4, 5):
        hook.before_train_iter(runner, 0, data_batch=None)
        found[runner.iter] = dict(runner.model.distiller.factors)
    assert found == {
        0: {"loss_cfb": 0.25, "loss_instance": 1.0},
        3: {"loss_cfb": 1.0, "loss_instance": 1.0},
        4: {"loss_cfb": 1.0, "loss_instance": 1.0},
        5: {"loss_cfb": 1.0, "loss_instance": 0.0},
    }


def test_a_loss_without_a_schedule_counts_whole(runner: Any) -> None:
    hook = DistillScheduleHook({"loss_instance": {"stop": 0}})
    hook.before_train(runner)
    hook.before_train_iter(runner)
    assert runner.model.distiller.factors == {"loss_cfb": 1.0, "loss_instance": 0.0}


def test_once_all_have_stopped_the_teacher_runs_no_more(
    runner: Any, batch: Callable, losses_of: Callable
) -> None:
    hook = DistillScheduleHook({"all": {"stop": 5}})
    ran: list[Any] = []
    runner.model.teacher.register_forward_pre_hook(lambda *_: ran.append(runner.iter))
    hook.before_train(runner)
    for runner.iter in (4, 5):
        hook.before_train_iter(runner)
        losses_of(runner.model, batch())
    assert ran == [4]


def test_a_loss_that_is_not_there_is_refused_with_the_nearest(runner: Any) -> None:
    with pytest.raises(UserError, match=r"no loss 'loss_instances'\. Did you mean 'loss_instance'\?"):
        DistillScheduleHook({"loss_instances": {"warmup": 1}}).before_train(runner)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match=r"warmup, decay, to and stop.*'warm_up'"):
        DistillScheduleHook({"all": {"warm_up": 3}})


def test_a_model_without_a_teacher_is_refused() -> None:
    hook = DistillScheduleHook({"all": {}})
    with pytest.raises(UserError, match=r"CheckedDistiller.*found Linear"):
        hook.before_train(SimpleNamespace(model=nn.Linear(1, 1)))  # type: ignore[arg-type]


def test_a_config_names_it() -> None:
    hook = HOOKS.build({"type": "ibkd_mm.DistillScheduleHook", "schedules": {"all": {"warmup": 100}}})
    assert isinstance(hook, DistillScheduleHook)


@pytest.mark.parametrize("step", [0, 5])
def test_an_average_that_copies_the_teacher_is_refused(runner: Any, step: int) -> None:
    runner.hooks, runner.iter = [EMAHook()], step  # resumed or not
    with pytest.raises(UserError, match="StudentEMAHook"):
        DistillScheduleHook({}).before_train(runner)
