import json
import multiprocessing
from pathlib import Path

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.plan import FILE, Amounts, Lengths, Plan, only_here

ASKED = {"minutes": 10.0, "data": "Shapes", "configs": "ab12"}
SECONDS = {"teacher": 200.0, "cache": 60.0, "baseline": 400.0, "distilled": 400.0, "report": 40.0}
LENGTHS = Lengths(500, 100, Amounts(200, 1800, 300), SECONDS)


@pytest.fixture
def out() -> Path:
    Path("out").mkdir()
    return Path("out")


def test_what_is_fixed_is_found_again(out: Path) -> None:
    plan = Plan(out, ASKED)
    assert plan.lengths is None
    plan.fix(LENGTHS)
    assert Plan(out, ASKED).lengths == LENGTHS
    assert LENGTHS.amounts.training == 2000


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({**ASKED, "minutes": 5.0}, "  minutes: 10.0 there, 5.0 now"),
        ({**ASKED, "data": "/my.json"}, "  data: Shapes there, /my.json now"),
        ({**ASKED, "configs": "cd34"}, "  configs: ab12 there, cd34 now"),
        ({**ASKED, "teacher": "mine.py"}, "  teacher: None there, mine.py now"),
    ],
)
def test_another_plan_is_refused_with_what_differs(out: Path, asked: dict, line: str) -> None:
    Plan(out, ASKED).fix(LENGTHS)
    before = (out / FILE).read_bytes()
    with pytest.raises(UserError, match="with another plan") as refused:
        Plan(out, asked)
    lines = str(refused.value).splitlines()
    assert lines[1:] == [line, "Give another --out-dir, or remove out."]
    assert (out / FILE).read_bytes() == before


def test_a_folder_of_other_things_is_not_touched(out: Path) -> None:
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"out holds other things \(thesis.tex\)"), only_here(out):
        pass
    assert [each.name for each in out.iterdir()] == ["thesis.tex"]
    Path("file").touch()
    with pytest.raises(UserError, match="found the file file"), only_here(Path("file")):
        pass


def test_each_training_is_saved_every_forty_seconds_of_its_own() -> None:
    assert [LENGTHS.checkpoint_every(name) for name in ("teacher", "baseline")] == [20, 50]
    assert Lengths(2, 0, LENGTHS.amounts, {"baseline": 1000.0}).checkpoint_every("baseline") == 1


def test_one_that_was_killed_while_it_wrote_its_plan_is_begun_again(out: Path) -> None:
    (out / f".{FILE}.partial").write_text("{")
    with only_here(out):
        Plan(out, ASKED).fix(LENGTHS)
    assert Plan(out, ASKED).lengths == LENGTHS


def test_a_broken_plan_is_named(out: Path) -> None:
    for text in ("{", json.dumps({"asked": {}}), "[]"):
        (out / FILE).write_text(text)
        with pytest.raises(UserError, match="is no plan of a quickstart"):
            Plan(out, ASKED)


def _try(out: Path, said: "multiprocessing.Queue[str]") -> None:
    try:
        with only_here(out):
            said.put("held")
    except UserError as error:
        said.put(str(error))


def test_a_second_one_in_the_same_folder_is_refused_while_the_first_runs(out: Path) -> None:
    context = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[str] = context.Queue()
    with only_here(out):
        other = context.Process(target=_try, args=(out, said))
        other.start()
        assert "Another quickstart is filling out now" in said.get(timeout=20)
        other.join()
    other = context.Process(target=_try, args=(out, said))
    other.start()
    assert said.get(timeout=20) == "held"
    other.join()
