"""How much each distillation loss counts, from the first step to the last."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from ibkd_mm.distill.distiller import CheckedDistiller
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import HOOKS

Position = int | float  # a number of iterations, or a share of all iterations if it is a float
_ALL = "all"


@dataclass(frozen=True)
class Schedule:
    """A factor: rises from 0 to 1 during `warmup`, falls to `to` from `decay` on, is 0 from `stop` on."""

    warmup: Position = 0
    decay: Position | None = None
    to: float = 0.0
    stop: Position | None = None

    def __post_init__(self) -> None:
        for name in ("warmup", "decay", "stop"):
            position = getattr(self, name)
            if position is not None and (position < 0 or (isinstance(position, float) and position > 1)):
                raise UserError(
                    f"DistillScheduleHook.schedules: expected {name} as a number of iterations or a share of "
                    f"all of them, 0.0 to 1.0; found {position}."
                )

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of a step, counted from 0."""
        warmup, decay, stop = (_in_steps(each, steps) for each in (self.warmup, self.decay, self.stop))
        end = steps if stop is None else stop
        if step >= end:
            return 0.0
        risen = min((step + 1) / warmup, 1.0) if warmup else 1.0
        if decay is None or step < decay:
            return risen
        return risen * (1 + (self.to - 1) * (step - decay) / (end - decay))


def _in_steps(position: Position | None, steps: int) -> int | None:
    return round(position * steps) if isinstance(position, float) else position


@HOOKS.register_module()
class DistillScheduleHook(Hook):
    """Scale the distillation losses by the position of the training.

    The factor depends on the iteration alone, so a resumed training continues as it would have. While all
    factors are 0 the teacher does not run. The distiller's `extra_targets` have a factor that only switches
    them: targets are added while it is above 0, so from the first step of a warm-up on.

    Acts before_train and before_train_iter.

    Args:
        schedules: settings of `Schedule` by the name of the loss, or `extra_targets`; `all` is for every
            other.
    """

    def __init__(self, schedules: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            self.schedules = {name: Schedule(**settings) for name, settings in schedules.items()}
        except TypeError as error:
            raise UserError(f"DistillScheduleHook expects warmup, decay, to and stop; {error}.") from error

    def before_train(self, runner: Runner) -> None:
        """Refuse schedules of unknown losses, and weight averages that include the teacher."""
        model = unwrap_model(runner.model)
        self._distiller: Any = getattr(model, "distiller", None)
        if not isinstance(self._distiller, CheckedDistiller):
            raise UserError(
                "DistillScheduleHook expects a model with a CheckedDistiller, found "
                f"{type(model).__name__}. Remove the hook: default_hooks.distill_schedule=None."
            )
        check_no_teacher_copies(runner)
        for name in self.schedules:
            if name != _ALL and name not in self._distiller.factors:
                hint = did_you_mean(name, self._distiller.factors)
                raise UserError(f"DistillScheduleHook.schedules: the distiller has no loss '{name}'.{hint}")

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Set the factors of this step."""
        factors = self._distiller.factors
        for name in factors:
            schedule = self.schedules.get(name, self.schedules.get(_ALL))
            if schedule is not None:
                factors[name] = schedule.factor(runner.iter, runner.max_iters)


def check_no_teacher_copies(runner: Runner) -> None:
    """Refuse mmengine's EMAHook, which would copy and average the teacher too."""
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise UserError(
            "EMAHook copies the whole model, and its teacher with it. Use ibkd_mm.StudentEMAHook in "
            "custom_hooks instead."
        )
