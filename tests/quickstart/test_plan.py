import json
import multiprocessing
from pathlib import Path

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.plan import PLAN_FILE, ImageCounts, Plan, RunLengths, lock_output_folder

INPUTS = {"minutes": 10.0, "data": "Shapes", "configs": "ab12"}
SECONDS = {"teacher": 200.0, "cache": 60.0, "baseline": 400.0, "distilled": 400.0, "report": 40.0}
LENGTHS = RunLengths(500, 100, ImageCounts(200, 1800, 300), SECONDS)


@pytest.fixture
def out() -> Path:
    Path("out").mkdir()
    return Path("out")


def test_stored_lengths_are_read_again(out: Path) -> None:
    plan = Plan(out, INPUTS)
    assert plan.lengths is None
    plan.set_lengths(LENGTHS)
    assert Plan(out, INPUTS).lengths == LENGTHS
    assert LENGTHS.images.training == 2000


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ({**INPUTS, "minutes": 5.0}, "  minutes: then 10.0, now 5.0"),
        ({**INPUTS, "data": "/my.json"}, "  data: then Shapes, now /my.json"),
        ({**INPUTS, "configs": "cd34"}, "  configs: then ab12, now cd34"),
        ({**INPUTS, "teacher": "mine.py"}, "  teacher: then None, now mine.py"),
    ],
)
def test_other_inputs_are_refused_with_what_differs(out: Path, inputs: dict, line: str) -> None:
    Plan(out, INPUTS).set_lengths(LENGTHS)
    before = (out / PLAN_FILE).read_bytes()
    with pytest.raises(UserError, match="with other options or data") as refused:
        Plan(out, inputs)
    lines = str(refused.value).splitlines()
    assert lines[1:] == [line, "Give another --out-dir, or remove out."]
    assert (out / PLAN_FILE).read_bytes() == before


def test_a_folder_with_other_files_is_not_touched(out: Path) -> None:
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"out holds other files \(thesis.tex\)"), lock_output_folder(out):
        pass
    assert [each.name for each in out.iterdir()] == ["thesis.tex"]
    Path("file").touch()
    with pytest.raises(UserError, match="found the file file"), lock_output_folder(Path("file")):
        pass


def test_each_training_saves_a_checkpoint_every_forty_seconds() -> None:
    assert [LENGTHS.checkpoint_interval(name) for name in ("teacher", "baseline")] == [20, 50]
    assert RunLengths(2, 0, LENGTHS.images, {"baseline": 1000.0}).checkpoint_interval("baseline") == 1


def test_a_start_that_was_killed_while_it_wrote_its_plan_is_repeated(out: Path) -> None:
    (out / f".{PLAN_FILE}.partial").write_text("{")
    with lock_output_folder(out):
        Plan(out, INPUTS).set_lengths(LENGTHS)
    assert Plan(out, INPUTS).lengths == LENGTHS


def test_a_broken_plan_is_named(out: Path) -> None:
    for text in ("{", json.dumps({"inputs": {}}), "[]"):
        (out / PLAN_FILE).write_text(text)
        with pytest.raises(UserError, match="is not the plan of a quickstart"):
            Plan(out, INPUTS)


def _try(out: Path, messages: "multiprocessing.Queue[str]") -> None:
    try:
        with lock_output_folder(out):
            messages.put("locked")
    except UserError as error:
        messages.put(str(error))


def test_a_second_one_in_the_same_folder_is_refused_while_the_first_runs(out: Path) -> None:
    context = multiprocessing.get_context("fork")
    messages: multiprocessing.Queue[str] = context.Queue()
    with lock_output_folder(out):
        other = context.Process(target=_try, args=(out, messages))
        other.start()
        assert "Another quickstart is running in out" in messages.get(timeout=20)
        other.join()
    other = context.Process(target=_try, args=(out, messages))
    other.start()
    assert messages.get(timeout=20) == "locked"
    other.join()
