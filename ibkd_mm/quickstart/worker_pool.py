"""Trainings as processes, one by one or beside each other, and what is heard from them."""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from ibkd_mm.errors import UserError

FINISHED = "finished"
"""A file in the folder of a training that was judged at its end."""
REFUSED = 2

# `-m` would import what lies in the user's folder first, such as a clone of mmdetection
_CHILD = """
import sys
sys.path = [each for each in sys.path if each]
from ibkd_mm.quickstart.training_process import main
sys.exit(main(sys.argv[1:]))
"""
COMMAND = (sys.executable, "-c", _CHILD)
_CONSOLE = "console.txt"
_PATIENCE = 60.0
"""Seconds in which a training that is told to stop saves itself."""
_SHOWN = 15


class TrainingFailedError(RuntimeError):
    """A training ended by a fault of the program."""


@dataclass(frozen=True)
class Job:
    """A training to be run.

    Args:
        name: of it.
        config: a file.
        work_dir: folder for its files.
        threads: that it may use.
    """

    name: str
    config: Path
    work_dir: Path
    threads: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.work_dir / FINISHED).is_file()


class _Child:
    def __init__(
        self, job: Job, heard: "queue.Queue[tuple[_Child, str | None]]", command: Sequence[str]
    ) -> None:
        job.work_dir.mkdir(parents=True, exist_ok=True)
        self.job, self.error = job, ""
        with (job.work_dir / _CONSOLE).open("a") as console:
            self.process = subprocess.Popen(
                [*command, str(job.config), str(job.work_dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
                start_new_session=True,  # Ctrl-C is for us, and we tell it
            )
        Thread(target=self._listen, args=(heard,), daemon=True).start()

    def _listen(self, heard: "queue.Queue[tuple[_Child, str | None]]") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            heard.put((self, line))
        heard.put((self, None))

    def stop(self) -> None:
        """Tell it to save and leave."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()

    def wait(self) -> None:
        """Wait for its end, not for ever."""
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def check_exit(self) -> None:
        """Refuse another end than the right one."""
        code = self.process.wait()
        if code == REFUSED and self.error:
            raise UserError(f"The training in {self.job.work_dir} stopped: {self.error}")
        if code:
            console = self.job.work_dir / _CONSOLE
            lines = console.read_text(errors="replace").splitlines()[-_SHOWN:]
            raise TrainingFailedError(
                "\n".join(
                    [f"The training in {self.job.work_dir} ended with code {code}. {console} ends:", *lines]
                )
            )


def run_beside(
    jobs: Sequence[Job],
    tell: Callable[[Job, int | None], None],
    warn: Callable[[str], None],
    command: Sequence[str] = COMMAND,
) -> None:
    """Run trainings beside each other; where one fails, or we are stopped, all save themselves and end.

    Args:
        jobs: the trainings.
        tell: is given a training and the step that it has reached; None at its end.
        warn: is given what is warned of.
        command: that trains, to which config and folder are added.
    """
    heard: queue.Queue[tuple[_Child, str | None]] = queue.Queue()
    children: list[_Child] = []
    try:
        for job in jobs:
            children.append(_Child(job, heard, command))
        running = len(children)
        while running:
            child, line = heard.get()
            if line is None:
                child.check_exit()
                running -= 1
                tell(child.job, None)
            else:
                _take(child, json.loads(line), tell, warn)
    finally:
        for child in children:
            child.stop()
        for child in children:
            child.wait()


def _take(
    child: _Child, said: dict[str, Any], tell: Callable[[Job, int | None], None], warn: Callable[[str], None]
) -> None:
    if "step" in said:
        tell(child.job, said["step"])
    if "warning" in said:
        warn(f"{child.job.name}: {said['warning']}")
    child.error = said.get("error", child.error)
