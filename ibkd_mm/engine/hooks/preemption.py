"""The hook that answers SIGTERM and Ctrl-C: it ends the step, saves, and exits with a code for requeueing."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.checkpoint.latest import PREEMPTED
from ibkd_mm.engine.checkpoint.save import set_last_checkpoint
from ibkd_mm.engine.loops import ResumableIterLoop
from ibkd_mm.engine.model_wrappers import is_accumulating
from ibkd_mm.registry import HOOKS
from ibkd_mm.stack.internals import is_resuming

REQUEUE = os.EX_TEMPFAIL
_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")
# Seconds after a signal in which a second one is ignored: schedulers, torchrun and `timeout` may send two.
_REPEAT = 1.0
_PENDING, _FORMER_PENDING = "validation_pending", "validation_owed"  # the latter before version 0.1.0


class Preempted(SystemExit):
    """Raised when a stopped training is saved; it exits the process with the hook's code."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On a signal, end the step, save `preempted.pth` and exit. A second signal exits at once.

    Acts after all other hooks. Gradients that are accumulated are stepped first.

    Args:
        signals: names of the signals to answer (default: SIGTERM, SIGINT, SIGUSR1).
        exit_code: exit code after saving (default: 75, EX_TEMPFAIL: try again).
    """

    priority = "LOWEST"

    def __init__(self, signals: Sequence[str] = _SIGNALS, exit_code: int = REQUEUE) -> None:
        self.signals = [signal.Signals[name] for name in signals]
        self.exit_code = exit_code
        self._received: signal.Signals | None = None
        self._received_at = 0.0
        self._validation_pending = False
        self._handlers: dict[signal.Signals, Any] = {}  # the former ones

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers, then run a validation that the stop interrupted."""
        if current_thread() is main_thread():  # Python allows handlers only there
            self._handlers = {number: signal.signal(number, self._on_signal) for number in self.signals}
        else:
            runner.logger.warning("Training in a thread other than the main one: no signal saves it.")
        if self._validation_pending:
            self._validation_pending = False
            runner.logger.info("Running the validation that the stop interrupted.")
            runner.val_loop.run()

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stop after this step if any process received a signal."""
        if not is_accumulating(runner) and self._is_stopping():
            loop, done = runner.train_loop, runner.iter + 1
            pending = isinstance(loop, ResumableIterLoop) and loop.validates_after(done)
            self._save_and_exit(runner, done, pending)

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stop during a validation, which resuming repeats; several processes finish theirs."""
        if self._handlers and get_world_size() == 1 and self._is_stopping():
            self._save_and_exit(runner, runner.iter, validation_pending=True)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read whether a validation is pending."""
        pending = any(checkpoint.get(key) for key in (_PENDING, _FORMER_PENDING))
        self._validation_pending = pending and is_resuming(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write whether a validation is pending."""
        if self._validation_pending:
            checkpoint[_PENDING] = True

    def close(self) -> None:
        """Restore the former signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            if time.monotonic() - self._received_at > _REPEAT:
                os._exit(128 + number)
            return
        self._received, self._received_at = signal.Signals(number), time.monotonic()
        text = f"\n{self._received.name}: ending this step, then saving. A second signal exits at once.\n"
        os.write(2, text.encode())

    def _is_stopping(self) -> bool:
        """Return whether any process received a signal; they receive it at different steps, or not at all."""
        received = self._received is not None
        if get_world_size() == 1:
            return received
        flag = torch.tensor(int(received), device="cuda" if torch.cuda.is_available() else "cpu")
        all_reduce(flag, "max")
        return bool(flag)

    def _save_and_exit(self, runner: Runner, iteration: int, validation_pending: bool) -> None:
        self._validation_pending = validation_pending
        folder = Path(runner.work_dir)
        runner.save_checkpoint(str(folder), PREEMPTED, meta={"epoch": runner.epoch, "iter": iteration})
        if is_main_process():
            set_last_checkpoint(folder / PREEMPTED, folder)
        barrier()  # torchrun and srun end the other processes as soon as one exits
        cause = self._received.name if self._received else "another process"
        runner.logger.info(
            f"Stopped by {cause} after iteration {iteration}; saved {folder / PREEMPTED}. "
            f"Continue with --resume. Exit code {self.exit_code}."
        )
        raise Preempted(self.exit_code)
