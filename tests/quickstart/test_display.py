import io

import pytest
from rich.console import Console

from ibkd_mm.quickstart.display import Display

TITLES = {"data": "data", "one": "the student alone", "two": "the student distilled", "report": "the report"}
GROUPS = [["data"], ["one", "two"], ["report"]]
PLAN = {"one": 100.0, "two": 120.0, "report": 30.0}


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def display(time: Time) -> Display:
    """Writes lines to a file."""
    return Display(TITLES, GROUPS, Console(file=io.StringIO()), time)


def test_stages_that_run_at_the_same_time_count_once(display: Display, time: Time) -> None:
    assert display.remaining() is None
    display.plan(PLAN)
    display.end("data", "already done")
    assert display.remaining() == 150
    display.begin("one")
    display.begin("two")
    time.now += 20
    assert display.remaining() == 130
    display.advance("one", 1, 100)
    display.advance("two", 1, 100)
    time.now += 60
    display.advance("one", 51, 100)
    display.advance("two", 25, 100)  # 24 of 100 in a minute
    assert display.remaining() == 60 / 24 * 75 + 0.5 + 30  # rounded up to whole seconds
    display.end("two")
    assert display.remaining() == 59 + 30
    display.end("one")
    display.begin("report")
    time.now += 99  # longer than planned
    assert display.remaining() == 0


def test_the_speed_does_not_include_what_an_earlier_run_has_done(display: Display, time: Time) -> None:
    display.plan(PLAN)
    display.end("data", "already done")
    display.begin("one")
    time.now += 10
    display.advance("one", 80, 100)  # resumed there
    time.now += 10
    display.advance("one", 90, 100)
    display.end("two")
    assert display.remaining() == 10 + 30


def test_without_a_terminal_lines_show_start_end_and_progress_every_half_minute(
    display: Display, time: Time
) -> None:
    with display:
        display.message("hello")
        display.begin("data")
        time.now += 7
        display.end("data")
        display.plan(PLAN)
        display.begin("one")
        for step in range(1, 8):
            time.now += 10
            display.advance("one", 100 * step, 1000)
        display.end("one")
        display.end("two", "already done")
    assert display._console.file.getvalue().splitlines() == [
        "hello",
        "[1/4] data ...",
        "      data: done in 0:07",
        "[2/4] the student alone ...",
        # the other student: 120 s, the report: 30
        "      the student alone: 300 of 1,000, about 2:30 left in total",
        "      the student alone: 600 of 1,000, about 2:30 left in total",
        "      the student alone: done in 1:10, about 2:30 left in total",
        "      the student distilled: already done, about 0:30 left in total",
    ]


def test_on_a_terminal_each_stage_has_a_bar_from_the_start(time: Time) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    display = Display(TITLES, GROUPS, console, time)
    with display:
        display.plan(PLAN)
        display.end("data", "already done")
        display.begin("one")
        display.advance("one", 250, 1000)
        assert display._live
        with console.capture() as captured:
            console.print(display._live.get_renderable())
        display.message("look: [not a style]")
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert [line.split("  ")[0].strip() for line in lines[:4]] == list(TITLES.values())
    assert lines[0].endswith("already done")
    assert lines[1].endswith("250 of 1,000")
    assert lines[4] == "about 2:30 left in total"
    assert "look: [not a style]" in console.file.getvalue()
    assert "[2/4]" not in console.file.getvalue()


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(TITLES, GROUPS)
    display.message("a line")
    assert capsys.readouterr().err == "a line\n"
