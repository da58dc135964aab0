"""Progress of long work: a bar with the time left on a terminal, a line now and then anywhere else."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")

_LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Shows how much of a task is done, how fast it goes and how long the rest will take.

    Args:
        label: name of the task.
        total: amount of work; 0 if it is unknown.
        initial: amount that was done before, which does not count for the speed.
        unit: what is counted; 'B' shows bytes as MB.
        out: where to write; else stderr.
    """

    def __init__(
        self, label: str, total: int, *, initial: int = 0, unit: str = "", out: TextIO | None = None
    ) -> None:
        self.label, self.total, self.initial, self.unit = label, total, initial, unit
        self.out = out or sys.stderr
        self.done = initial
        self._started = self._shown = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if self.out.isatty():
            self._start_bar()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Show that so much of the total is done."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=self.line())
            return
        now = time.monotonic()
        if now - self._shown > _LINE_EVERY:
            self._shown = now
            print(self.line(), file=self.out, flush=True)

    def advance(self, count: int = 1) -> None:
        """Show that so much more is done."""
        self.update(self.done + count)

    def line(self, seconds: float | None = None) -> str:
        """Format amount, speed and time left, `seconds` after the start."""
        seconds = time.monotonic() - self._started if seconds is None else seconds
        speed = (self.done - self.initial) / max(seconds, 1e-3)
        if not self.total:
            return f"{self.label}: {self._amount(self.done)}, {self._amount(speed)}/s"
        left = timedelta(seconds=round((self.total - self.done) / max(speed, 1e-9))) if speed else "unknown"
        amount = f"{self._amount(self.done)} of {self._amount(self.total)}"
        return f"{self.label}: {self.done / self.total:.0%}, {amount}, {self._amount(speed)}/s, {left} left"

    def _amount(self, value: float) -> str:
        if self.unit == "B":
            return f"{value / 1e6:.1f} MB"
        return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = BarColumn(bar_width=30), TextColumn("{task.fields[text]}")
        self._bar = Bar(*columns, console=Console(file=self.out), transient=False)
        self._task = self._bar.add_task("", total=self.total or None, completed=self.done, text=self.line())
        self._bar.start()


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Pass items on and show how many have passed."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()
