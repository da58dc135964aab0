"""The whole of it, as small as can be: stopped before each stage, gone on with, begun again at its end."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import astuple, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from ibkd_mm import cli
from ibkd_mm.data_check import images as check_images
from ibkd_mm.data_check.images import DecodedImage, ImageFile, read_image
from ibkd_mm.datasets.shapes import CLASSES
from ibkd_mm.engine import load_weights
from ibkd_mm.errors import UserError
from ibkd_mm.offline import CacheReader
from ibkd_mm.quickstart import QuickstartResult, recipe, run
from ibkd_mm.quickstart import image_sizes as sizes
from ibkd_mm.quickstart import quickstart_run as story
from ibkd_mm.quickstart.display import Clock, Display
from ibkd_mm.quickstart.plan import Amounts, Plan
from ibkd_mm.quickstart.recipe import Recipe
from ibkd_mm.quickstart.time_budget import Pace
from ibkd_mm.quickstart.training_process import learn
from ibkd_mm.quickstart.user_configs import UserDataSource
from ibkd_mm.quickstart.worker_pool import Job
from ibkd_mm.report import evaluate_models as report_models
from ibkd_mm.stack.ops.execution import one_thread

SPEC = {"train": 10, "val": 2, "size": 64}
STAGES = ("measure", "cache", "run_beside", "report")
SMALL = """
_base_ = {base!r}
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
"""


def in_this_process(jobs: Sequence[Job], tell: Callable[..., None], warn: Callable[[str], None]) -> None:
    """Train without processes, which take seconds to begin; test_child.py starts one."""
    for job in jobs:
        told: list[int] = []
        learn(job.config, job.work_dir, lambda step=None, **_: told.append(step))  # noqa: B023
        for step in [*told, None]:
            tell(job, step)


@dataclass
class Told:
    """What several starts of one quickstart said and did."""

    out: Path
    ends: list[Any] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    done: list[list[str]] = field(default_factory=list)

    @property
    def result(self) -> QuickstartResult:
        return self.ends[-1]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Start it, with trainings of two steps; `stop_at` is a stage at which Ctrl-C is pressed."""
    folder = tmp_path_factory.mktemp("configs")

    def start(told: Told, stop_at: str = "", **more: Any) -> None:
        done: list[str] = []

        def watched(name: str) -> Callable[..., Any]:
            real = getattr(story, name)

            def call(*given: Any, **named: Any) -> Any:
                if name == stop_at:
                    raise KeyboardInterrupt
                if name != "run_beside" or given[0]:
                    done.append(name)
                return real(*given, **named)

            return call

        with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
            for name in ("BASELINE", "DISTILLED"):
                config = folder / f"{name.lower()}.py"
                config.write_text(SMALL.format(base=getattr(recipe, name)))
                patch.setattr(recipe, name, str(config))
            patch.setattr(story, "run_beside", in_this_process)
            for name in STAGES:
                patch.setattr(story, name, watched(name))
            patch.setattr(story, "own_threads", lambda: 1)
            patch.setattr(report_models, "time_models", lambda *_: [])
            try:
                told.ends.append(run(told.out, **{"minutes": 0.01, "spec": SPEC, **more}))
            except (KeyboardInterrupt, UserError) as error:
                told.ends.append(error)
            told.said.append(said.getvalue())
            told.done.append(done)

    return start


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., None]) -> Told:
    """Stopped before every stage, then left alone."""
    told = Told(tmp_path_factory.mktemp("quickstart") / "out")
    with one_thread(torch.empty(0)):
        for stage in ("measure", "cache", "run_beside", "report", ""):
            start(told, stop_at=stage)
    return told


def test_each_start_goes_on_where_the_last_one_was_stopped(told: Told) -> None:
    assert told.done == [[], ["measure"], ["cache"], ["run_beside"], ["report"]]
    assert [type(end) for end in told.ends] == [KeyboardInterrupt] * 4 + [QuickstartResult]
    for said in told.said[:-1]:
        assert said.splitlines()[-1] == "Stopped. The same command goes on from here."


def test_what_is_said_tells_the_stages_in_order_and_what_was_done_before(told: Told) -> None:
    begun = [re.findall(r"^\[(\d)/6\] (.*) \.\.\.$", said, re.MULTILINE) for said in told.said]
    students = [("4", "the student alone"), ("5", "the student distilled")]
    assert begun == [
        [("1", "data"), ("2", "lengths, by timing some steps")],
        [("1", "data"), ("2", "lengths, by timing some steps"), ("3", "the teacher's cache")],
        [("3", "the teacher's cache"), *students],
        [*students, ("6", "the report")],
        [("6", "the report")],
    ]
    last = told.said[-1]
    assert "Data: Shapes, preset hard: 10 pictures, 1 of them labelled, 2 to judge by." in last
    assert "lengths, by timing some steps: 10 pictures to learn from, 2 steps of each student" in last
    for stage in ("data", "the teacher's cache", "the student alone", "the student distilled"):
        assert f"      {stage}: done before" in last
    with CacheReader(told.out / "teacher.sqlite") as reader:
        assert reader.counts()[0] == 10
    assert "mmengine" not in "".join(told.said)
    assert "mmengine" in (told.out / "console.txt").read_text()


def test_at_the_end_stand_the_main_table_its_path_and_what_to_do_next(told: Told) -> None:
    lines = str(told.result).splitlines()
    assert [re.split(r"\s{2,}", line)[0] for line in lines[:-2]] == [
        "mask, %",
        "baseline",
        "distilled",
        "distilled - baseline",
        "distilled: share of the teacher's gap",
        "teacher",
    ]
    assert lines[-2] == f"Wrote {told.result.page}"
    assert told.result.page == told.out / "report" / "index.html"
    assert told.result.page.is_file()
    last = told.out / "distilled" / "iter_2.pth"
    assert lines[-1] == f"Next: ibkd export {told.out / 'distilled.py'} {last} {told.out / 'student.onnx'}"


def test_the_next_command_works_as_it_is_printed(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the tracing, which takes seconds and is tested in tests/deploy."""
    given: list[Any] = []

    def note(detector: Any, out: Path, settings: Any, *, config: Any, classes: list[str]) -> None:
        given.extend([detector.state_dict(), classes, out])
        raise UserError("enough")

    monkeypatch.setattr(sys.modules["ibkd_mm.apis.export"], "export_model", note)
    words = shlex.split(str(told.result).splitlines()[-1].removeprefix("Next: "))
    assert words[:2] == ["ibkd", "export"]
    assert cli.main(words[1:]) == 2
    weights, classes, out = given
    trained = load_weights(told.out / "distilled" / "iter_2.pth")["state_dict"]
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
    assert (classes, out) == (list(CLASSES), told.out / "student.onnx")


def test_begun_again_from_another_folder_it_gives_paths_from_there(
    told: Told, start: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(told.out)
    again = Told(Path("../out"))
    start(again)
    assert again.done == [[]]
    assert again.result.text == told.result.text.replace(str(told.out), "../out")


def test_of_own_pictures_those_that_there_is_time_for_are_read_and_no_others(
    write_own: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(file: ImageFile) -> DecodedImage:
        read.append(file.path)
        return read_image(file)

    for module in (check_images, sizes):
        monkeypatch.setattr(module, "read_image", noted)
    timed: list[int] = []

    def measure(config: Recipe) -> Pace:
        timed.append(len(read))
        return Pace(step=1.0, teacher_step=1.0, seen_by_teacher=1.0, seen_by_student=1.0)

    monkeypatch.setattr(story, "measure", measure)
    monkeypatch.setattr(story, "perf_counter", lambda: 0.01 * len(read))  # what reading takes
    material = UserDataSource(write_own(labelled=60, unlisted=40).parent, None, None)
    out, (labelled, _, held) = Path("out"), astuple(material.amounts)
    out.mkdir()
    display = Display(story._TITLES, Clock(story._stages(trains_teacher=True)), StringIO())
    seconds = 4 * (labelled + 10) + 0.01 * (20 + held) + 0.1
    told = story._Story(out, material, Plan(out, material.asked), display, seconds)
    _, lengths = told._prepare()
    assert held < 20  # so many to judge by are kept in any case
    assert timed == [20 + held]  # were read before they were timed
    # a second a picture for a quarter of the time: the reading of these takes the time for another one
    assert len(read) - timed[0] == labelled + 10 + held
    assert lengths.amounts == Amounts(labelled, 9, held)
    written = [
        image["file_name"]
        for name in ("train.json", "val.json")
        for image in json.loads((out / "data" / name).read_text())["images"]
    ]
    assert len(written) == labelled + 9 + held
    (last,) = set(read) - set(written)
    assert last == str(material._data.unlabelled[9])
    assert set(read[: timed[0]]) < set(written)
    shown = cast(StringIO, display.out).getvalue()
    assert f"Checking {labelled + 10 + held} pictures, which there is time for." in shown


def test_the_report_finds_the_two_trainings_equal_but_for_the_teacher(told: Told) -> None:
    assert "Not a fair comparison" not in str(told.result)
    numbers = json.loads((told.out / "report" / "report.json").read_text())
    assert [(group["label"], len(group["runs"])) for group in numbers["groups"]] == [
        ("baseline", 1),
        ("distilled", 1),
    ]


def test_begun_again_at_its_end_it_does_nothing_and_says_the_same(
    told: Told, start: Callable[..., None]
) -> None:
    again = Told(told.out)
    start(again)
    assert again.done == [[]]
    assert (again.said, again.result) == ([""], told.result)


def test_another_plan_in_the_same_folder_is_refused(told: Told, start: Callable[..., None]) -> None:
    again = Told(told.out)
    for other in ({"minutes": 5}, {"spec": {**SPEC, "train": 11}}):
        start(again, **other)
    assert "  minutes: 0.01 there, 5.0 now" in str(again.ends[0])
    assert "  configs: " in str(again.ends[1])
    assert again.done == [[], []]


def test_wrong_input_is_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("--minutes", "0"): "Expected --minutes of more than 0, found 0.0.",
        ("--minutes", "nan"): "Expected --minutes of more than 0, found nan.",
        ("--teacher", "a.py"): "--teacher and --teacher-weights are for --data",
        ("--data", "nowhere"): "expected a COCO JSON or a folder with one, and there is no nowhere.",
    }
    for arguments, message in cases.items():
        assert cli.main(["quickstart", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not any(Path("quickstart").glob("[!.]*"))
