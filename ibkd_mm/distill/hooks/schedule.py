"""What the teacher counts, from the first step to the last."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from ibkd_mm.distill.distiller import CheckedDistiller
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import HOOKS

Place = int | float
_ALL = "all"


@dataclass(frozen=True)
class Schedule:
    """Rises from 0 over `warmup`, falls from `decay` on to `to`, and is 0 from `stop` on.

    Places are iterations, or shares of all of them where they are fractions.
    """

    warmup: Place = 0
    decay: Place | None = None
    to: float = 0.0
    stop: Place | None = None

    def __post_init__(self) -> None:
        """Refuse a share of more than all."""
        for name in ("warmup", "decay", "stop"):
            place = getattr(self, name)
            if place is not None and (place < 0 or (isinstance(place, float) and place > 1)):
                raise UserError(
                    f"DistillScheduleHook.schedules: {name} is a number of iterations or a share of all of "
                    f"them, 0.0 to 1.0; found {place}."
                )

    def factor(self, step: int, steps: int) -> float:
        """Say what counts in a step, the first being 0."""
        warmup, decay, stop = (_steps(place, steps) for place in (self.warmup, self.decay, self.stop))
        end = steps if stop is None else stop
        if step >= end:
            return 0.0
        risen = min((step + 1) / warmup, 1.0) if warmup else 1.0
        if decay is None or step < decay:
            return risen
        return risen * (1 + (self.to - 1) * (step - decay) / (end - decay))


def _steps(place: Place | None, steps: int) -> int | None:
    return round(place * steps) if isinstance(place, float) else place


@HOOKS.register_module()
class DistillScheduleHook(Hook):
    """Scale the losses of a distillation by where the training stands.

    The factor depends on the iteration alone, so that a resumed training goes on as it would have. While all
    of them are 0 the teacher does not run. The distiller's `extra_targets` have one too, which turns them on
    and off: they are added while it is above 0, so from the first step of a warm-up on.

    Acts before_train and before_train_iter.

    Args:
        schedules: settings of `Schedule` for losses by name, and for `extra_targets`; those under `all` are
            for every other.
    """

    def __init__(self, schedules: Mapping[str, Mapping[str, Any]]) -> None:
        try:
            self.schedules = {name: Schedule(**settings) for name, settings in schedules.items()}
        except TypeError as error:
            raise UserError(
                f"DistillScheduleHook expects warmup, decay, to and stop for a loss; {error}."
            ) from error

    def before_train(self, runner: Runner) -> None:
        """Refuse a loss that is not there, and an average of more than the student."""
        self._distiller = distiller_of(runner, "DistillScheduleHook")
        check_no_copies(runner)
        for name in self.schedules:
            if name != _ALL and name not in self._distiller.factors:
                raise UserError(
                    f"DistillScheduleHook.schedules: the distiller has no loss '{name}'."
                    f"{did_you_mean(name, self._distiller.factors)}"
                )

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Set the factors of this step."""
        factors = self._distiller.factors
        for name in factors:
            schedule = self.schedules.get(name, self.schedules.get(_ALL))
            if schedule is not None:
                factors[name] = schedule.factor(runner.iter, runner.max_iters)


def check_no_copies(runner: Runner) -> None:
    """Refuse mmengine's average, which would copy the teacher and average it with itself."""
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise UserError(
            "EMAHook copies the whole model, and its teacher with it. Use ibkd_mm.StudentEMAHook in "
            "custom_hooks in its place."
        )


def distiller_of(runner: Runner, hook: str) -> CheckedDistiller:
    """Get the distiller that a training has."""
    distiller = getattr(unwrap_model(runner.model), "distiller", None)
    if not isinstance(distiller, CheckedDistiller):
        raise UserError(
            f"{hook} is for a FrozenTeacherDistill with a CheckedDistiller, found a "
            f"{type(unwrap_model(runner.model)).__name__}. Take the hook out, or set it to None in `default_hooks`."
        )
    return distiller
