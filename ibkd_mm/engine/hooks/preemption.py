"""A training that is told to stop ends its step, saves, and leaves with a code to requeue on."""

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

from ibkd_mm.engine.checkpoint.save import PREEMPTED, is_accumulating, set_last_checkpoint
from ibkd_mm.engine.loops import ResumableIterLoop
from ibkd_mm.registry import HOOKS

REQUEUE = os.EX_TEMPFAIL
_ECHO = 1.0
"""Seconds in which another signal is the same stop: schedulers, torchrun and `timeout` may send one twice."""


class Preempted(SystemExit):
    """Raised once a stopped training is saved; it leaves the process with the hook's exit code."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On a signal: end the step, save `preempted.pth`, exit. A second one, a second later, stops at once.

    Acts in before_train, and after_train_iter and after_val_iter behind every other hook. A step inside
    an accumulation of gradients is not an end; the training goes on to where it is.

    Args:
        signals: names of the signals to answer.
        exit_code: the code of a saved exit (default: 75, EX_TEMPFAIL: try again).
    """

    priority = "LOWEST"

    def __init__(
        self, signals: Sequence[str] = ("SIGTERM", "SIGINT", "SIGUSR1"), exit_code: int = REQUEUE
    ) -> None:
        self.signals = [signal.Signals[name] for name in signals]
        self.exit_code = exit_code
        self._received: signal.Signals | None = None
        self._when = 0.0
        self._owed = False
        self._former: dict[signal.Signals, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Answer the signals from here on, and make up for a validation that was cut short."""
        if current_thread() is main_thread():  # Python lets no other one answer
            self._former = {number: signal.signal(number, self._note) for number in self.signals}
        else:
            runner.logger.warning("The training is in a thread of its own: no signal makes it save.")
        if self._owed:
            self._owed = False
            runner.logger.info("The validation that the stop cut short is done first.")
            runner.val_loop.run()

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stop after this step if any process was told to."""
        if not is_accumulating(runner) and self._told():
            loop, done = runner.train_loop, runner.iter + 1
            self._leave(runner, done, owed=isinstance(loop, ResumableIterLoop) and loop.validates_after(done))

    def after_val_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Stop a validation, to be done again on resuming; several processes finish theirs."""
        if self._former and get_world_size() == 1 and self._told():
            self._leave(runner, runner.iter, owed=True)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read whether a validation is owed."""
        self._owed = bool(checkpoint.get("validation_owed")) and runner._resume

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write whether a validation is owed."""
        if self._owed:
            checkpoint["validation_owed"] = True

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            if time.monotonic() - self._when > _ECHO:
                os._exit(128 + number)
            return
        self._received, self._when = signal.Signals(number), time.monotonic()
        text = f"\n{self._received.name}: ending this step, then saving. A second signal stops at once.\n"
        os.write(2, text.encode())

    def _told(self) -> bool:
        """Agree with the other processes: the signal reaches them at different steps, or not at all."""
        told = self._received is not None
        if get_world_size() == 1:
            return told
        flag = torch.tensor(int(told), device="cuda" if torch.cuda.is_available() else "cpu")
        all_reduce(flag, "max")
        return bool(flag)

    def _leave(self, runner: Runner, iteration: int, owed: bool) -> None:
        self._owed = owed
        folder = Path(runner.work_dir)
        runner.save_checkpoint(str(folder), PREEMPTED, meta={"epoch": runner.epoch, "iter": iteration})
        if is_main_process():
            set_last_checkpoint(folder / PREEMPTED, folder)
        barrier()  # torchrun and srun end those that remain as soon as one is gone
        cause = self._received.name if self._received else "another process"
        runner.logger.info(
            f"Stopped by {cause} after iteration {iteration}; saved {folder / PREEMPTED}. "
            f"Go on with --resume. Exit code {self.exit_code}."
        )
        raise Preempted(self.exit_code)
