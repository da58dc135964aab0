"""A step whose numbers are not finite is named, left out and counted; after too many the training stops."""

import copy
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ibkd_mm.engine.checkpoint.save import find_os_error, is_accumulating, training_only_of
from ibkd_mm.engine.finite import all_finite, loss_terms, non_finite_modules, non_finite_terms
from ibkd_mm.engine.model_wrappers import gradients, optim_wrappers, unwrap_model
from ibkd_mm.engine.replay.file import SUFFIX, Step, versions, write_step
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS

_COUNT = "train/skipped_steps"


@dataclass(frozen=True)
class _Fault:
    """What was not finite in a step of this process; nothing, where it was another's."""

    found: list[str]
    in_losses: bool
    iteration: int
    batch: Any
    losses: dict[str, float]


@HOOKS.register_module()
class NonFiniteGuard(Hook):
    """Leave out a step whose losses, gradients or statistics are not finite; stop after too many in a row.

    Such a step changes nothing: no weight, no momentum, no statistic of a norm layer; the schedules go on.
    Stopping, it writes the last one to `non_finite_iter_N.replay` in the work dir, for `ibkd replay`.

    Acts before_train, before_train_iter and after_train_iter; inside the step, on what the model's forward
    returns, and before the optimizer's step, where gradients that are None leave everything as it is.

    Args:
        patience: how many in a row end the training.
    """

    priority = "VERY_HIGH"

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise UserError(f"Expected a patience of at least 1 in NonFiniteGuard, found {patience}.")
        self.patience = patience
        self._skipped = self._in_a_row = 0
        self._handles: list[Any] = []
        self._terms: dict[str, Tensor] = {}
        self._judged = False
        self._fault: _Fault | None = None

    def before_train(self, runner: Runner) -> None:
        """Attach to the model and the optimizers."""
        self.close()
        self._model = unwrap_model(runner.model)
        self._buffers = _Buffers(self._model)
        if _COUNT in runner.message_hub.log_scalars:  # from before a resume
            self._skipped = int(runner.message_hub.get_scalar(_COUNT).current())
        self._handles = [runner.model.register_forward_hook(self._note_losses)]
        for wrapper in optim_wrappers(runner.optim_wrapper):
            scaled = isinstance(wrapper, AmpOptimWrapper)
            hook = partial(self._before_step, scaled=scaled)
            self._handles.append(wrapper.optimizer.register_step_pre_hook(hook))

    def close(self) -> None:
        """Detach."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what the step may spoil."""
        self._terms = {}
        self._judged = False
        self._iteration = runner.iter
        self._buffers.keep()
        # A model may change the batch that it is given, so the one that may be written is copied before.
        self._batch = copy.deepcopy(data_batch) if self._in_a_row + 1 >= self.patience else None

    def _note_losses(self, model: nn.Module, _: Any, output: Any) -> None:
        if model.training and isinstance(output, dict):
            self._terms.update({name: value.detach() for name, value in loss_terms(output).items()})

    def _before_step(self, optimizer: Any, *_: Any, scaled: bool) -> None:
        # A scaler of gradients makes them overflow now and then to find its scale, and leaves out such steps
        # by itself: its ordinary work. With one, only losses and statistics are judged.
        if not self._agreed([] if scaled else gradients(optimizer)):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Undo and count a step that was left out."""
        unfinished = is_accumulating(runner)
        if unfinished:
            if self._fault is None and not all_finite(self._watched()):
                self._fault = self._find(finite_here=False)
        elif not self._judged:  # the scaler left the step out before it came to the optimizer
            self._agreed([])
        if self._fault is not None:
            self._buffers.restore()
        if not unfinished:
            self._finish(runner)

    def _watched(self) -> list[Tensor]:
        return [*self._terms.values(), *self._buffers.watched.values()]

    def _agreed(self, gradients: list[Tensor]) -> bool:
        """Tell whether all is finite in this and in every other process, so that all go on alike."""
        here = all_finite([*self._watched(), *gradients])
        everywhere = torch.tensor(here and self._fault is None, dtype=torch.uint8)
        all_reduce(everywhere, "min")
        self._judged = True
        if not everywhere and self._fault is None:
            self._fault = self._find(here)
        return self._fault is None

    def _find(self, finite_here: bool) -> _Fault:
        in_losses = [] if finite_here else non_finite_terms(self._terms)
        found = in_losses or ([] if finite_here else non_finite_modules(self._model, self._buffers.watched))
        losses = {name: float(value) for name, value in self._terms.items()}
        return _Fault(found, bool(in_losses), self._iteration, self._batch, losses)

    def _finish(self, runner: Runner) -> None:
        fault, self._fault = self._fault, None
        if fault is None:
            self._in_a_row = 0
            return
        self._skipped += 1
        self._in_a_row += 1
        runner.message_hub.update_scalar(_COUNT, self._skipped)
        found = _causes(all_gather_object((fault.in_losses, fault.found)))
        said = "; ".join(dict.fromkeys(one for own in found for one in own))
        runner.logger.warning(
            f"Iteration {runner.iter + 1} is left out ({self._in_a_row} of {self.patience} in a row): {said}."
        )
        if self._in_a_row >= self.patience:
            raise self._stop(runner, fault, found, said)

    def _stop(self, runner: Runner, fault: _Fault, found: list[list[str]], said: str) -> UserError:
        """Write the step in every process that is at fault; all end alike."""
        files = {rank: _file(runner, rank, len(found)) for rank, own in enumerate(found) if own}
        kept = f"`ibkd replay {next(iter(files.values()))}` runs it again and shows where it comes from."
        try:
            if runner.rank in files:
                write_step(files[runner.rank], self._step(runner, fault))
        except (OSError, RuntimeError, TypeError) as error:
            reason = str(find_os_error(error) or error).partition("\n")[0]
            kept = f"{files[runner.rank]} could not be written ({reason})."
        return UserError(
            f"Stopped at iteration {runner.iter + 1}, which is not finite ({self._in_a_row} in a row): "
            f"{said}. {kept} Then mend the data or lower the learning rate, and go on with --resume."
        )

    def _step(self, runner: Runner, fault: _Fault) -> Step:
        # As mmengine names the config that it writes into the work dir.
        name = Path(runner.cfg.filename).name if runner.cfg.filename else f"{runner.timestamp}.py"
        return Step(
            batch=fault.batch,
            state_dict={name: value.cpu() for name, value in self._model.state_dict().items()},
            training_only=training_only_of(self._model),
            place=(int(runner.seed), runner.rank, fault.iteration),
            config=name,
            losses=fault.losses,
            versions=versions(),
        )


def _causes(everywhere: list[tuple[bool, list[str]]]) -> list[list[str]]:
    """What each process found; gradients are shared, so where a loss is at fault they say nothing more."""
    in_a_loss = any(in_losses for in_losses, _ in everywhere)
    return [found if in_losses or not in_a_loss else [] for in_losses, found in everywhere]


def _file(runner: Runner, rank: int, processes: int) -> Path:
    which = f"_rank_{rank}" if processes > 1 else ""
    return Path(runner.work_dir) / f"non_finite_iter_{runner.iter + 1}{which}{SUFFIX}"


class _Buffers:
    """The buffers of a model as they were before a step: a batch spoils a norm layer's on the way forward."""

    def __init__(self, model: nn.Module) -> None:
        entries = model.state_dict(keep_vars=True).items()
        live = {name: one for name, one in entries if type(one) is Tensor}
        floating = {name: one for name, one in live.items() if one.is_floating_point()}
        # One that is infinite by design says nothing about a step.
        self.watched = {name: one for name, one in floating.items() if all_finite([one])}
        groups = defaultdict(list)  # torch copies lists of one kind at once
        for one in live.values():
            groups[one.device, one.dtype].append(one)
        self._pairs = [(group, [one.clone() for one in group]) for group in groups.values()]

    def keep(self) -> None:
        """Copy them."""
        for live, kept in self._pairs:
            torch._foreach_copy_(kept, live)

    def restore(self) -> None:
        """Put the copies back."""
        for live, kept in self._pairs:
            torch._foreach_copy_(live, kept)
