"""The hook that skips training steps with NaN or Inf, and stops a training with too many of them in a row."""

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

from ibkd_mm.engine.checkpoint.save import find_os_error, training_only_of
from ibkd_mm.engine.finite import all_finite, loss_terms, non_finite_modules, non_finite_terms
from ibkd_mm.engine.model_wrappers import gradients, is_accumulating, optim_wrappers, unwrap_model
from ibkd_mm.engine.replay.file import SUFFIX, Step, versions, write_step
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS
from ibkd_mm.stack.internals import copy_tensors

_COUNT = "train/skipped_steps"


@dataclass(frozen=True)
class _Fault:
    found: list[str]  # nothing if only another process found something
    in_losses: bool
    iteration: int
    batch: Any
    losses: dict[str, float]


@HOOKS.register_module()
class NonFiniteGuard(Hook):
    """Skip a step whose losses, gradients or statistics are not finite; stop after too many in a row.

    A skipped step changes no weight, no momentum and no statistic of a norm layer; schedules continue. When
    it stops, the hook writes the last step to `non_finite_iter_N.replay` in the work dir, for `ibkd replay`.

    Acts after the model's forward, and before the optimizer's step, where it sets gradients to None.

    Args:
        patience: number of skipped steps in a row that stops the training.
    """

    priority = "VERY_HIGH"

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise UserError(f"Expected a patience of at least 1 in NonFiniteGuard, found {patience}.")
        self.patience = patience
        self._skipped = self._in_a_row = 0
        self._handles: list[Any] = []
        self._terms: dict[str, Tensor] = {}
        self._fault: _Fault | None = None

    def before_train(self, runner: Runner) -> None:
        """Attach to the model and the optimizers."""
        self.close()
        self._model = unwrap_model(runner.model)
        self._buffers = _Buffers(self._model)
        if _COUNT in runner.message_hub.log_scalars:  # of the training that is resumed
            self._skipped = int(runner.message_hub.get_scalar(_COUNT).current())
        self._handles = [runner.model.register_forward_hook(self._after_forward)]
        for wrapper in optim_wrappers(runner.optim_wrapper):
            hook = partial(self._before_step, scaled=isinstance(wrapper, AmpOptimWrapper))
            self._handles.append(wrapper.optimizer.register_step_pre_hook(hook))

    def close(self) -> None:
        """Detach."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Save what the step may make non-finite."""
        self._terms = {}
        self._checked = False
        self._iteration = runner.iter
        self._buffers.save()
        # a model may change its batch in place, so the batch that may be written is copied before
        self._batch = copy.deepcopy(data_batch) if self._in_a_row + 1 >= self.patience else None

    def _after_forward(self, model: nn.Module, _: Any, output: Any) -> None:
        if model.training and isinstance(output, dict):
            self._terms.update({name: value.detach() for name, value in loss_terms(output).items()})

    def _before_step(self, optimizer: Any, *_: Any, scaled: bool) -> None:
        # A gradient scaler lets gradients overflow now and then to find its scale, and skips such steps
        # itself. With one, only losses and statistics are checked.
        if not self._is_finite_everywhere([] if scaled else gradients(optimizer)):
            optimizer.zero_grad(set_to_none=True)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Undo and count a skipped step."""
        accumulating = is_accumulating(runner)
        if not accumulating and not self._checked:  # a scaler skipped the optimizer's step
            self._is_finite_everywhere([])
        elif accumulating and self._fault is None and not all_finite(self._tensors()):
            self._fault = self._find(finite_here=False)
        if self._fault is not None:
            self._buffers.restore()
        if not accumulating:
            self._count(runner)

    def _tensors(self) -> list[Tensor]:
        return [*self._terms.values(), *self._buffers.checked.values()]

    def _is_finite_everywhere(self, gradients: list[Tensor]) -> bool:
        """Check this process and all others, so that all of them skip the same steps."""
        finite_here = all_finite([*self._tensors(), *gradients])
        everywhere = torch.tensor(finite_here and self._fault is None, dtype=torch.uint8)
        all_reduce(everywhere, "min")
        self._checked = True
        if not everywhere and self._fault is None:
            self._fault = self._find(finite_here)
        return self._fault is None

    def _find(self, finite_here: bool) -> _Fault:
        in_losses = [] if finite_here else non_finite_terms(self._terms)
        found = in_losses or ([] if finite_here else non_finite_modules(self._model, self._buffers.checked))
        losses = {name: float(value) for name, value in self._terms.items()}
        return _Fault(found, bool(in_losses), self._iteration, self._batch, losses)

    def _count(self, runner: Runner) -> None:
        fault, self._fault = self._fault, None
        if fault is None:
            self._in_a_row = 0
            return
        self._skipped += 1
        self._in_a_row += 1
        runner.message_hub.update_scalar(_COUNT, self._skipped)
        processes = all_gather_object((fault.in_losses, fault.found))
        in_a_loss = any(in_losses for in_losses, _ in processes)
        # gradients are shared: they count only if no loss is at fault
        found = [found if in_losses or not in_a_loss else [] for in_losses, found in processes]
        causes = "; ".join(dict.fromkeys(cause for process in found for cause in process))
        runner.logger.warning(
            f"Iteration {runner.iter + 1} is skipped "
            f"({self._in_a_row} of {self.patience} in a row): {causes}."
        )
        if self._in_a_row >= self.patience:
            raise self._write(runner, fault, found, causes)

    def _write(self, runner: Runner, fault: _Fault, found: list[list[str]], causes: str) -> UserError:
        """Write the step in every process that found a cause; return the error that all of them raise."""
        name = f"{runner.work_dir}/non_finite_iter_{runner.iter + 1}"
        suffix = "_rank_{}" + SUFFIX if len(found) > 1 else SUFFIX
        files = {rank: Path(name + suffix.format(rank)) for rank, process in enumerate(found) if process}
        hint = f"`ibkd replay {next(iter(files.values()))}` runs it again and shows the cause."
        try:
            if runner.rank in files:
                write_step(files[runner.rank], self._step(runner, fault))
        except (OSError, RuntimeError, TypeError) as error:
            reason = str(find_os_error(error) or error).partition("\n")[0]
            hint = f"{files[runner.rank]} could not be written ({reason})."
        return UserError(
            f"Stopped at iteration {runner.iter + 1}, which is not finite ({self._in_a_row} in a row): "
            f"{causes}. {hint} Fix the data or lower the learning rate, then continue with --resume."
        )

    def _step(self, runner: Runner, fault: _Fault) -> Step:
        return Step(
            batch=fault.batch,
            state_dict={name: value.cpu() for name, value in self._model.state_dict().items()},
            training_only=training_only_of(self._model),
            seed=int(runner.seed),
            rank=runner.rank,
            iteration=fault.iteration,
            # the name of the config that mmengine writes into the work dir
            config=Path(runner.cfg.filename or f"{runner.timestamp}.py").name,
            losses=fault.losses,
            versions=versions(),
        )


class _Buffers:
    """A copy of a model's buffers: the forward pass already updates the statistics of norm layers."""

    def __init__(self, model: nn.Module) -> None:
        entries = model.state_dict(keep_vars=True).items()
        live = {name: value for name, value in entries if type(value) is Tensor}
        floating = {name: value for name, value in live.items() if value.is_floating_point()}
        # a buffer that is infinite by design is no fault of a step
        self.checked = {name: value for name, value in floating.items() if all_finite([value])}
        groups = defaultdict(list)  # torch copies lists of one device and dtype at once
        for value in live.values():
            groups[value.device, value.dtype].append(value)
        self._pairs = [(group, [value.clone() for value in group]) for group in groups.values()]

    def save(self) -> None:
        for live, copies in self._pairs:
            copy_tensors(copies, live)

    def restore(self) -> None:
        for live, copies in self._pairs:
            copy_tensors(live, copies)
