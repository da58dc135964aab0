"""One display for a whole quickstart: live on a terminal, a line now and then anywhere else."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

_LINE_EVERY = 30.0
_ENOUGH = 0.05
"""From this share of a stage on, its own pace tells its end better than the plan."""

Groups = Sequence[Sequence[str]]
"""Names of stages in order; those of one group run beside each other."""


@dataclass
class _Running:
    began: float
    first: float | None = None
    share: float = 0.0


class Clock:
    """Tells how long the whole will still take.

    Args:
        groups: of the stages.
        now: the time.
    """

    def __init__(self, groups: Groups, now: Callable[[], float] = time.monotonic) -> None:
        self.groups, self.now = groups, now
        self._planned: dict[str, float] = {}
        self._running: dict[str, _Running] = {}
        self._over: set[str] = set()

    def plan(self, seconds: Mapping[str, float]) -> None:
        """Learn what each stage is expected to take."""
        self._planned = dict(seconds)

    def begin(self, stage: str) -> None:
        """Note that a stage runs."""
        self._running[stage] = _Running(self.now())

    def advance(self, stage: str, share: float) -> None:
        """Note how much of it is done; what is told first was done before."""
        running = self._running[stage]
        if running.first is None:
            running.began, running.first = self.now(), share
        running.share = share

    def end(self, stage: str) -> float:
        """Note that it is over, and say how long it took."""
        self._over.add(stage)
        running = self._running.pop(stage, None)
        return 0.0 if running is None else self.now() - running.began

    def left(self) -> float | None:
        """Estimate the seconds that are left; None before there is a plan."""
        if not self._planned:
            return None
        return sum(max(self._left_of(stage) for stage in group) for group in self.groups)

    def _left_of(self, stage: str) -> float:
        if stage in self._over:
            return 0.0
        planned, running = self._planned.get(stage, 0.0), self._running.get(stage)
        if running is None:
            return planned
        spent, came = self.now() - running.began, running.share - (running.first or 0.0)
        if came > _ENOUGH:
            return (1 - running.share) * spent / came
        return max(planned * (1 - running.share) - spent, 0.0)


class Display:
    """What is shown in lines; where nobody watches, this is all.

    Args:
        titles: of the stages by their names.
        clock: of the same stages.
        out: where the lines go.
    """

    def __init__(self, titles: Mapping[str, str], clock: Clock, out: TextIO) -> None:
        self.titles, self.clock, self.out = titles, clock, out
        self._told: dict[str, float] = {}

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, stage: str) -> None:
        """Say that a stage begins."""
        self.clock.begin(stage)
        self._told[stage] = self.clock.now()
        self._show(f"[{1 + list(self.titles).index(stage)}/{len(self.titles)}] {self.titles[stage]} ...")

    def advance(self, stage: str, done: int, total: int) -> None:
        """Say how far it is, if it is time."""
        self.clock.advance(stage, done / max(total, 1))
        if self.clock.now() - self._told[stage] >= _LINE_EVERY:
            self._told[stage] = self.clock.now()
            self._show(f"      {self.titles[stage]}: {_count(done, total)}{_left(self.clock.left())}")

    def end(self, stage: str, note: str = "") -> None:
        """Say that it is over."""
        took = self.clock.end(stage)
        self._show(
            f"      {self.titles[stage]}: {note or f'done in {_minutes(took)}'}{_left(self.clock.left())}"
        )

    def say(self, text: str) -> None:
        """Say something that is to stay."""
        self._show(text)

    def _show(self, line: str) -> None:
        print(line, file=self.out, flush=True)


class LiveDisplay(Display):
    """The same on a terminal: every stage on a line of its own that is renewed, and below them the time."""

    def __init__(self, titles: Mapping[str, str], clock: Clock, console: Console) -> None:
        super().__init__(titles, clock, console.file)  # type: ignore[arg-type]
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {
            stage: self._bars.add_task(title, total=1.0, note="") for stage, title in titles.items()
        }
        self._live = Live(
            get_renderable=self._drawn, console=console, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, stage: str) -> None:
        """Let its bar move."""
        self.clock.begin(stage)
        self._bars.update(self._tasks[stage], total=None, note="...")

    def advance(self, stage: str, done: int, total: int) -> None:
        """Move its bar."""
        self.clock.advance(stage, done / max(total, 1))
        self._bars.update(self._tasks[stage], total=max(total, 1), completed=done, note=_count(done, total))

    def end(self, stage: str, note: str = "") -> None:
        """Fill its bar."""
        took = self.clock.end(stage)
        self._bars.update(self._tasks[stage], total=1, completed=1, note=note or _minutes(took))

    def _show(self, line: str) -> None:
        self._live.console.print(Text(line))

    def _drawn(self) -> Any:
        return Group(self._bars, Text(_left(self.clock.left()).removeprefix(", ")))


def open_display(titles: Mapping[str, str], groups: Groups) -> Display:
    """Choose by where it is shown."""
    console, clock = Console(file=sys.stderr), Clock(groups)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(titles, clock, console)
    return Display(titles, clock, sys.stderr)


def _count(done: int, total: int) -> str:
    return f"{done:,} of {total:,}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {_minutes(seconds)} left for all"
