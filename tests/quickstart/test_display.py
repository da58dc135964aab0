import io

import pytest
from rich.console import Console

from ibkd_mm.quickstart.display import Clock, Display, LiveDisplay, open_display

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


def test_what_runs_beside_something_takes_no_time_of_its_own(time: Time) -> None:
    clock = Clock(GROUPS, time)
    assert clock.left() is None
    clock.plan(PLAN)
    assert clock.left() == 150
    clock.begin("one")
    clock.begin("two")
    time.now += 20
    assert clock.left() == 130
    clock.advance("one", 0.0)
    clock.advance("two", 0.0)
    time.now += 60
    clock.advance("one", 0.5)
    clock.advance("two", 0.25)  # a quarter in a minute
    assert clock.left() == 180 + 30
    assert clock.end("two") == 60
    assert clock.left() == 60 + 30
    clock.end("one")
    clock.begin("report")
    time.now += 99  # longer than was thought
    assert clock.left() == 0


def test_what_was_done_before_tells_nothing_of_the_pace(time: Time) -> None:
    clock = Clock(GROUPS, time)
    clock.plan(PLAN)
    clock.begin("one")
    time.now += 10
    clock.advance("one", 0.8)  # resumed there
    time.now += 10
    clock.advance("one", 0.9)
    clock.end("two")
    assert clock.left() == pytest.approx(10 + 30)


def test_without_a_terminal_a_line_stands_for_beginning_end_and_half_a_minute(time: Time) -> None:
    out = io.StringIO()
    display = Display(TITLES, Clock(GROUPS, time), out)
    with display:
        display.say("hello")
        display.begin("data")
        time.now += 7
        display.end("data")
        display.clock.plan(PLAN)
        display.begin("one")
        for step in range(1, 8):
            time.now += 10
            display.advance("one", 100 * step, 1000)
        display.end("one")
        display.end("two", "done before")
    assert out.getvalue().splitlines() == [
        "hello",
        "[1/4] data ...",
        "      data: done in 0:07",
        "[2/4] the student alone ...",
        # the other one: 120 s, the report: 30
        "      the student alone: 300 of 1,000, about 2:30 left for all",
        "      the student alone: 600 of 1,000, about 2:30 left for all",
        "      the student alone: done in 1:00, about 2:30 left for all",
        "      the student distilled: done before, about 0:30 left for all",
    ]


def test_on_a_terminal_every_stage_has_a_line_from_the_first_to_the_last_moment(time: Time) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    display = LiveDisplay(TITLES, Clock(GROUPS, time), console)
    with display:
        display.clock.plan(PLAN)
        display.end("data", "done before")
        display.begin("one")
        display.advance("one", 250, 1000)
        with console.capture() as captured:
            console.print(display._drawn())
        display.say("look: [not a style]")
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert [line.split("  ")[0].strip() for line in lines[:4]] == list(TITLES.values())
    assert lines[0].endswith("done before")
    assert lines[1].endswith("250 of 1,000")
    assert lines[4] == "about 2:30 left for all"
    assert "look: [not a style]" in console.file.getvalue()


def test_it_is_chosen_by_where_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    display = open_display(TITLES, GROUPS)
    assert type(display) is Display
    display.say("a line")
    assert capsys.readouterr().err == "a line\n"
