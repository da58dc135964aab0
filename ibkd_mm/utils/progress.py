"""Progress of long tasks: a bar with the time left on a terminal, a line every 30 seconds in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")

_LINE_EVERY = 30.0  # seconds between two lines if the output is not a terminal


class Progress:
    """Context manager that shows how much of a task is done, its speed and the time left.

    `total` is 0 if it is unknown; `initial` was done earlier and does not count for the speed; `unit` is a
    plural name, or 'B' to show bytes as MB.
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
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = BarColumn(bar_width=30), TextColumn("{task.fields[text]}")
            self._bar = Bar(*columns, console=Console(file=self.out), transient=False)
            self._task = self._bar.add_task(
                "", total=self.total or None, completed=self.done, text=self.line()
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Set the amount that is done."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=self.line())
            return
        now = time.monotonic()
        if now - self._shown > _LINE_EVERY:
            self._shown = now
            print(self.line(), file=self.out, flush=True)

    def advance(self, count: int = 1) -> None:
        """Increase the amount that is done."""
        self.update(self.done + count)

    def line(self, seconds: float | None = None) -> str:
        """Format amount, speed and time left, `seconds` after the start."""
        seconds = time.monotonic() - self._started if seconds is None else seconds
        speed = (self.done - self.initial) / max(seconds, 1e-3)
        unit = " MB" if self.unit == "B" else f" {self.unit}".rstrip()
        done, total, per_second = map(self._number, (self.done, self.total, speed))
        if not self.total:
            return f"{self.label}: {done}{unit}, {per_second}{unit}/s"
        left = timedelta(seconds=round((self.total - self.done) / speed)) if speed else "unknown time"
        share = self.done / self.total
        return f"{self.label}: {share:.0%}, {done} of {total}{unit}, {per_second}{unit}/s, {left} left"

    def _number(self, value: float) -> str:
        if self.unit == "B":
            return f"{value / 1e6:.1f}"
        return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items and show how many were processed."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()
