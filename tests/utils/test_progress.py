"""A terminal shows a bar with the time left, a log a line every 30 seconds."""

import io
import re

import pytest

from ibkd_mm.utils import progress as module
from ibkd_mm.utils.progress import Progress, track


class Clock:
    """A clock that only a test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """What was written, without colours and moves of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


def test_the_line_has_amount_speed_and_time_left() -> None:
    progress = Progress("a.pth", 100_000_000, initial=20_000_000, unit="B")
    progress.done = 40_000_000
    assert progress.line(seconds=2) == "a.pth: 40%, 40.0 of 100.0 MB, 10.0 MB/s, 0:00:06 left"
    progress = Progress("Caching", 3000, unit="images")
    assert progress.line(seconds=2) == "Caching: 0%, 0 of 3,000 images, 0 images/s, unknown time left"
    progress.done = 5
    assert progress.line(seconds=2) == "Caching: 0%, 5 of 3,000 images, 2.5 images/s, 0:19:58 left"


def test_without_a_total_the_line_has_no_time_left() -> None:
    progress = Progress("a.pth", 0, unit="B")
    progress.done = 3_000_000
    assert progress.line(seconds=2) == "a.pth: 3.0 MB, 1.5 MB/s"


def test_a_log_gets_a_line_every_30_seconds(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Reading", 10, out=log) as progress:
        for _ in range(10):
            clock.now += 10
            progress.advance()
    assert log.getvalue().splitlines() == [
        "Reading: 40%, 4 of 10, 0.1/s, 0:01:00 left",
        "Reading: 80%, 8 of 10, 0.1/s, 0:00:20 left",
    ]


def test_a_short_task_leaves_no_line_in_a_log(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("Reading", 10, out=log) as progress:
        progress.update(10)
    assert log.getvalue() == ""


def test_a_terminal_shows_a_bar_that_ends_full(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    with Progress("Reading", 4, out=terminal) as progress:
        clock.now = 6
        progress.update(3)
        progress._bar.refresh()
        assert "Reading: 75%, 3 of 4, 0.5/s, 0:00:02 left" in terminal.shown()
        clock.now = 8
        progress.update(4)
    last = terminal.shown().rstrip().splitlines()[-1]
    assert re.fullmatch(r"\s*━{30} Reading: 100%, 4 of 4, 0\.5/s, 0:00:00 left\s*", last)


def test_an_error_ends_the_bar(clock: Clock) -> None:
    progress = Progress("Reading", 4, out=Terminal())
    with pytest.raises(ValueError), progress:
        raise ValueError
    assert not progress._bar.live.is_started


def test_track_yields_the_items_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def record(progress: Progress, done: int) -> None:
        progress.done = done
        counts.append(done)

    monkeypatch.setattr(Progress, "update", record)
    assert list(track("abc", "Reading", 3)) == ["a", "b", "c"]
    assert counts == [1, 2, 3]
