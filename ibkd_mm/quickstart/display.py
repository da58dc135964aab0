"""Progress of a quickstart: a bar for each stage on a terminal, a line every 30 seconds elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from mmengine.logging import MMLogger
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, Task, TextColumn
from rich.text import Text

_PACKAGE = str(Path(__file__).parents[1])
_LINE_SECONDS = 30.0
_MIN_PERCENTAGE = 5.0  # of a stage, from which on its speed predicts its end better than the plan
_SPEED_SECONDS = 3600.0  # over which a stage's speed is averaged


class Display:
    """Shows the progress of all stages and the time that they need; stages of a group run side by side."""

    def __init__(
        self,
        titles: Mapping[str, str],
        groups: Sequence[Sequence[str]],
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.groups = groups
        self._now = now
        self._console = console or Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            get_time=now,
            speed_estimate_period=_SPEED_SECONDS,
        )
        for title in titles.values():
            self._bars.add_task(title, total=1, text="")
        self._tasks = dict(zip(titles, self._bars.tasks, strict=True))
        self._planned: Mapping[str, float] = {}
        self._shown: dict[str, float] = {}
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                get_renderable=lambda: Group(self._bars, Text(self._remaining_text())),
                console=self._console,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def plan(self, seconds: Mapping[str, float]) -> None:
        """Set the expected duration of the stages."""
        self._planned = seconds

    def remaining(self) -> float | None:
        """Return the seconds that all stages still need; None before there is a plan."""
        if not self._planned:
            return None
        return sum(max(map(self._stage_remaining, group)) for group in self.groups)

    def begin(self, stage: str) -> None:
        """Show that a stage begins."""
        task = self._tasks[stage]
        self._bars.update(task.id, text="...")
        task.start_time = self._shown[stage] = self._now()
        self._line(f"[{1 + task.id}/{len(self._tasks)}] {task.description} ...")

    def advance(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done; the first amount counts as done by an earlier run."""
        task, text = self._tasks[stage], f"{done:,} of {total:,}"
        self._bars.update(task.id, total=max(total, 1), completed=done, text=text)
        if self._now() - self._shown[stage] >= _LINE_SECONDS:
            self._shown[stage] = self._now()
            self._stage_line(task, text)

    def end(self, stage: str, note: str = "") -> None:
        """Show that a stage is done."""
        task = self._tasks[stage]
        seconds = _format_time(task.elapsed or 0)
        self._bars.update(task.id, total=1, completed=1, text=note or seconds)
        self._stage_line(task, note or f"done in {seconds}")

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._line(text)
        if self._live:
            self._console.print(Text(text))

    def _stage_remaining(self, stage: str) -> float:
        task, planned = self._tasks[stage], self._planned.get(stage, 0.0)
        if task.finished or (task.percentage > _MIN_PERCENTAGE and task.speed):
            return task.time_remaining or 0.0
        elapsed = self._now() - (task.start_time or 0.0) if stage in self._shown else 0.0
        return max(planned * (1 - task.percentage / 100) - elapsed, 0.0)

    def _remaining_text(self) -> str:
        seconds = self.remaining()
        return "" if seconds is None else f"about {_format_time(seconds)} left in total"

    def _stage_line(self, task: Task, text: str) -> None:
        self._line(", ".join(filter(None, [f"      {task.description}: {text}", self._remaining_text()])))

    def _line(self, text: str) -> None:
        if not self._live:
            print(text, file=self._console.file, flush=True)


def _format_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class _PackageWarnings(logging.Handler):
    """Pass on warnings that this package logs; users can do nothing about those of other packages."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        if record.pathname.startswith(_PACKAGE):
            self._warn(record.getMessage())


@contextmanager
def redirect_output(file: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Append everything that is printed or logged to a file; pass warnings of this package to `warn`."""
    logger = MMLogger.get_current_instance()
    former = logger.handlers
    to_files = [handler for handler in former if isinstance(handler, logging.FileHandler)]
    with file.open("a", buffering=1) as output, redirect_stdout(output), redirect_stderr(output):
        logger.handlers = [*to_files, logging.StreamHandler(output), _PackageWarnings(warn)]
        try:
            yield
        finally:
            logger.handlers = former
