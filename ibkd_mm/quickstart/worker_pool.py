"""Run trainings as `ibkd train --resume` processes, side by side, and follow their logs."""

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ibkd_mm.engine.checkpoint.latest import last_checkpoint
from ibkd_mm.errors import UserError
from ibkd_mm.report.scalars import Log, read_log

# `python -m` would import modules from the user's folder first, such as a clone of mmdetection
_MAIN = """
import sys
sys.path = [path for path in sys.path if path]
from ibkd_mm.cli import main
sys.exit(main())
"""
COMMAND = (sys.executable, "-c", _MAIN, "train")
_POLL_SECONDS = 0.5
_STOP_SECONDS = 60.0  # that a stopped training has for its last checkpoint
_SHOWN_LINES = 15
_ERROR = "ibkd train: error: "
_FIRST_STEP = "Checkpoints will be saved to"  # logged by mmengine right before the first step
_WARNING = re.compile(r" - WARNING - (.+)\n")
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Training:
    """A training of so many steps, validated once after the last, and the threads that it may use."""

    name: str
    config: Path
    work_dir: Path
    steps: int
    threads: int

    @property
    def console(self) -> Path:
        """The file with everything that the process prints."""
        return self.work_dir / "console.txt"

    @property
    def final_checkpoint(self) -> Path:
        """The checkpoint of the last step."""
        return self.work_dir / f"iter_{self.steps}.pth"

    def is_complete(self) -> bool:
        """Return whether the last step was saved and validated."""
        return self.final_checkpoint.is_file() and bool(self.read_log().validation)

    def read_log(self, since: int = 0) -> Log:
        """Read the logs of its starts from number `since` on."""
        files = self.scalar_files()[since:]
        return read_log(files, by_epoch=False, interval=self.steps, end=self.steps)

    def scalar_files(self) -> list[Path]:
        """Find the files with mmengine's scalars, one for each start of the training, the oldest first."""
        return sorted(self.work_dir.glob("*/vis_data/scalars.json"))


def run_trainings(
    trainings: Sequence[Training],
    on_step: Callable[[Training, int], None],
    on_end: Callable[[Training], None],
    warn: Callable[[str], None],
    command: Sequence[str] = COMMAND,
) -> None:
    """Run trainings side by side to their ends; if one fails or on Ctrl-C, all save a checkpoint and stop."""
    processes: list[_Process] = []
    try:
        for training in trainings:
            processes.append(_Process(training, command))
        running = list(processes)
        while running:
            time.sleep(_POLL_SECONDS)
            ended = [process for process in running if process.popen.poll() is not None]
            for process in running:
                process.report(on_step, warn)
            for process in ended:
                process.check_exit_code()
                on_end(process.training)
                running.remove(process)
    finally:
        for process in processes:
            process.popen.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(_STOP_SECONDS)
            process.popen.kill()
            process.popen.wait()


class _Process:
    def __init__(self, training: Training, command: Sequence[str]) -> None:
        training.work_dir.mkdir(parents=True, exist_ok=True)
        self.training = training
        self._step = self._warnings = 0
        with training.console.open("ab") as console:
            # The process inherits this lock. One whose parent was killed may still be saving.
            fcntl.flock(console, fcntl.LOCK_EX)
            _remove_unvalidated_checkpoint(training)
            self._former_starts = len(training.scalar_files())
            self._start = console.tell()
            self.popen = subprocess.Popen(
                [*command, str(training.config), "--work-dir", str(training.work_dir), "--resume"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(training.threads)},
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops the trainings
                preexec_fn=partial(_stop_with_parent, os.getpid()) if sys.platform == "linux" else None,
            )

    def report(self, on_step: Callable[[Training, int], None], warn: Callable[[str], None]) -> None:
        """Pass on a new step and new warnings. Warnings before the first step are those of other packages."""
        log = self.training.read_log(since=self._former_starts)
        step = max(map(max, log.training.values()), default=0)
        if step > self._step:
            self._step = step
            on_step(self.training, step)
        warnings = _WARNING.findall(self._output().partition(_FIRST_STEP)[2])
        for warning in warnings[self._warnings :]:
            warn(f"{self.training.name}: {warning}")
        self._warnings = len(warnings)

    def check_exit_code(self) -> None:
        if self.popen.returncode == 0:
            return
        output, folder = self._output().rstrip(), self.training.work_dir
        _, is_explained, error = output.rpartition(_ERROR)
        if is_explained:
            raise UserError(f"The training in {folder} stopped: {error}")
        code, console = self.popen.returncode, self.training.console
        message = f"The training in {folder} ended with exit code {code}. The last lines of {console}:"
        raise UserError("\n".join([message, *output.splitlines()[-_SHOWN_LINES:]]))

    def _output(self) -> str:
        with self.training.console.open("rb") as console:
            console.seek(self._start)
            return console.read().decode(errors="replace")


def _remove_unvalidated_checkpoint(training: Training) -> None:
    """Repeat the last steps of a training killed during its validation, which follows a training step only.

    A training that a signal stops keeps a checkpoint of its own, `preempted.pth`, validated on resuming.
    """
    last = last_checkpoint(training.work_dir)
    if last and last.name == training.final_checkpoint.name and not training.is_complete():
        training.final_checkpoint.unlink(missing_ok=True)


def _stop_with_parent(parent: int) -> None:
    """Make Linux send SIGTERM to this process when its parent ends, however that happens."""
    _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before the call
        os._exit(os.EX_TEMPFAIL)
