"""A whole quickstart, as small as possible: stopped before each stage, resumed, started again at its end."""

import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import astuple, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from ibkd_mm import cli
from ibkd_mm.apis.train import train
from ibkd_mm.data_check import images as check_images
from ibkd_mm.data_check.images import DecodedImage, ImageFile, read_image
from ibkd_mm.datasets.shapes import CLASSES
from ibkd_mm.engine import load_weights
from ibkd_mm.errors import UserError
from ibkd_mm.offline import CacheReader
from ibkd_mm.quickstart import QuickstartResult, quickstart_run, recipe, run, user_data
from ibkd_mm.quickstart.display import Display
from ibkd_mm.quickstart.plan import ImageCounts, Plan
from ibkd_mm.quickstart.quickstart_run import QuickstartRun
from ibkd_mm.quickstart.recipe import Recipe
from ibkd_mm.quickstart.time_budget import Pace
from ibkd_mm.quickstart.user_configs import UserDataSource
from ibkd_mm.quickstart.worker_pool import Training
from ibkd_mm.report import evaluate_models as report_models
from ibkd_mm.stack.ops.execution import one_thread

SPEC = {"train": 10, "val": 2, "size": 64}
STAGES = ("measure", "cache", "run_trainings", "report")
SMALL = """
_base_ = {base!r}
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
"""


def train_in_this_process(
    trainings: Sequence[Training],
    on_step: Callable[..., None],
    on_end: Callable[..., None],
    warn: Callable[[str], None],
) -> None:
    """Train without processes, which take seconds to start; test_worker_pool.py starts some."""
    for training in trainings:
        train(training.config, work_dir=str(training.work_dir), resume="auto")
        on_step(training, training.steps)
        on_end(training)


@dataclass
class Starts:
    """Several starts of one quickstart: how each ended, what it printed and which stages it ran."""

    out: Path
    ends: list[Any] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    stages: list[list[str]] = field(default_factory=list)

    @property
    def result(self) -> QuickstartResult:
        return self.ends[-1]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Start it, with trainings of two steps; Ctrl-C is pressed at the stage `stop_at`."""
    folder = tmp_path_factory.mktemp("configs")

    def start(starts: Starts, stop_at: str = "", **more: Any) -> None:
        stages: list[str] = []

        def watched(name: str) -> Callable[..., Any]:
            real = getattr(quickstart_run, name)

            def call(*given: Any, **named: Any) -> Any:
                if name == stop_at:
                    raise KeyboardInterrupt
                if name != "run_trainings" or given[0]:
                    stages.append(name)
                return real(*given, **named)

            return call

        with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as printed:
            for name in ("BASELINE", "DISTILLED"):
                config = folder / f"{name.lower()}.py"
                config.write_text(SMALL.format(base=getattr(recipe, name)))
                patch.setattr(recipe, name, str(config))
            patch.setattr(quickstart_run, "run_trainings", train_in_this_process)
            for name in STAGES:
                patch.setattr(quickstart_run, name, watched(name))
            patch.setattr(quickstart_run, "student_threads", lambda: 1)
            patch.setattr(report_models, "time_models", lambda *_: [])
            try:
                starts.ends.append(run(starts.out, **{"minutes": 0.01, "spec": SPEC, **more}))
            except (KeyboardInterrupt, UserError) as error:
                starts.ends.append(error)
            starts.printed.append(printed.getvalue())
            starts.stages.append(stages)

    return start


@pytest.fixture(scope="session")
def starts(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., None]) -> Starts:
    """Stopped before every stage, then left alone."""
    starts = Starts(tmp_path_factory.mktemp("quickstart") / "out")
    with one_thread(torch.empty(0)):
        for stage in ("measure", "cache", "run_trainings", "report", ""):
            start(starts, stop_at=stage)
    return starts


def test_each_start_continues_where_the_last_one_was_stopped(starts: Starts) -> None:
    assert starts.stages == [[], ["measure"], ["cache"], ["run_trainings"], ["report"]]
    assert [type(end) for end in starts.ends] == [KeyboardInterrupt] * 4 + [QuickstartResult]
    for printed in starts.printed[:-1]:
        assert printed.splitlines()[-1] == "Stopped. The same command continues from here."


def test_each_start_prints_its_stages_and_what_is_already_done(starts: Starts) -> None:
    begun = [re.findall(r"^\[(\d)/6\] (.*) \.\.\.$", printed, re.MULTILINE) for printed in starts.printed]
    students = [("4", "the student alone"), ("5", "the student distilled")]
    assert begun == [
        [("1", "data"), ("2", "plan, by timing some steps")],
        [("1", "data"), ("2", "plan, by timing some steps"), ("3", "the teacher's cache")],
        [("3", "the teacher's cache"), *students],
        [*students, ("6", "the report")],
        [("6", "the report")],
    ]
    last = starts.printed[-1]
    assert (
        "Data: Shapes, preset hard: 10 training images, 1 of them labelled, and 2 validation images." in last
    )
    assert "plan, by timing some steps: 10 training images, 2 steps of each student" in last
    for stage in ("data", "the teacher's cache", "the student alone", "the student distilled"):
        assert f"      {stage}: already done" in last
    with CacheReader(starts.out / "teacher.sqlite") as reader:
        assert reader.counts()[0] == 10
    assert "mmengine" not in "".join(starts.printed)
    assert "mmengine" in (starts.out / "console.txt").read_text()


def test_the_result_is_the_main_table_the_page_and_the_next_command(starts: Starts) -> None:
    lines = str(starts.result).splitlines()
    assert [re.split(r"\s{2,}", line)[0] for line in lines[:-2]] == [
        "mask, %",
        "baseline",
        "distilled",
        "distilled - baseline",
        "distilled: gap to the teacher closed",
        "teacher",
    ]
    assert lines[-2] == f"Wrote {starts.result.page}"
    assert starts.result.page == starts.out / "report" / "index.html"
    assert starts.result.page.is_file()
    last = starts.out / "distilled" / "iter_2.pth"
    assert (
        lines[-1] == f"Next: ibkd export {starts.out / 'distilled.py'} {last} {starts.out / 'student.onnx'}"
    )


def test_the_next_command_works_as_it_is_printed(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the tracing, which takes seconds and is tested in tests/deploy."""
    arguments: list[Any] = []

    def note(model: Any, out: Path, settings: Any, *, config: Any, classes: list[str]) -> None:
        arguments.extend([model.state_dict(), classes, out])
        raise UserError("enough")

    monkeypatch.setattr(sys.modules["ibkd_mm.apis.export"], "export_model", note)
    words = shlex.split(str(starts.result).splitlines()[-1].removeprefix("Next: "))
    assert words[:2] == ["ibkd", "export"]
    assert cli.main(words[1:]) == 2
    weights, classes, out = arguments
    trained = load_weights(starts.out / "distilled" / "iter_2.pth")["state_dict"]
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
    assert (classes, out) == (list(CLASSES), starts.out / "student.onnx")


def test_the_paths_of_the_result_are_relative_to_the_current_folder(
    starts: Starts, start: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(starts.out)
    again = Starts(Path("../out"))
    start(again)
    assert again.stages == [[]]
    assert again.result.text == starts.result.text.replace(str(starts.out), "../out")


def test_only_user_images_that_there_is_time_for_are_read(
    write_coco: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(file: ImageFile) -> DecodedImage:
        read.append(file.path)
        return read_image(file)

    for module in (check_images, user_data):
        monkeypatch.setattr(module, "read_image", noted)
    timed: list[int] = []

    def measure(config: Recipe) -> Pace:
        timed.append(len(read))
        return Pace(step=1.0, teacher_step=1.0, teacher_image=1.0, student_image=1.0)

    monkeypatch.setattr(quickstart_run, "measure", measure)
    monkeypatch.setattr(quickstart_run, "perf_counter", lambda: 0.01 * len(read))  # what reading takes
    source = UserDataSource(write_coco(labelled=60, unlisted=40).parent, None, None)
    out, (labelled, _, validation) = Path("out"), astuple(source.images)
    out.mkdir()
    groups = quickstart_run._stages(trains_teacher=True)
    display = Display(quickstart_run._TITLES, groups, Console(file=StringIO()))
    seconds = 4 * (labelled + 10) + 0.01 * (20 + validation) + 0.1
    started = QuickstartRun(out, source, Plan(out, source.inputs), display, seconds)
    _, lengths = started.prepare()
    assert validation < 20  # so many validation images are used in any case
    assert timed == [20 + validation]  # were read before they were timed
    # a second a picture for a quarter of the time: the reading of these takes the time for another one
    assert len(read) - timed[0] == labelled + 10 + validation
    assert lengths.images == ImageCounts(labelled, 9, validation)
    written = [
        image["file_name"]
        for name in ("train.json", "val.json")
        for image in json.loads((out / "data" / name).read_text())["images"]
    ]
    assert len(written) == labelled + 9 + validation
    (last,) = set(read) - set(written)
    assert last == str(source._data.unlabelled[9])
    assert set(read[: timed[0]]) < set(written)
    shown = cast(StringIO, display._console.file).getvalue()
    assert f"Checking the {labelled + 10 + validation} images that there is time for." in shown


def test_the_report_finds_no_difference_but_the_teacher(starts: Starts) -> None:
    assert "Not a fair comparison" not in str(starts.result)
    numbers = json.loads((starts.out / "report" / "report.json").read_text())
    assert [(group["label"], len(group["runs"])) for group in numbers["groups"]] == [
        ("baseline", 1),
        ("distilled", 1),
    ]


def test_a_start_after_the_end_does_nothing_and_returns_the_same_result(
    starts: Starts, start: Callable[..., None]
) -> None:
    again = Starts(starts.out)
    start(again)
    assert again.stages == [[]]
    assert (again.printed, again.result) == ([""], starts.result)


def test_other_inputs_in_the_same_folder_are_refused(starts: Starts, start: Callable[..., None]) -> None:
    again = Starts(starts.out)
    for other in ({"minutes": 5}, {"spec": {**SPEC, "train": 11}}):
        start(again, **other)
    assert "  minutes: then 0.01, now 5.0" in str(again.ends[0])
    assert "  configs: " in str(again.ends[1])
    assert again.stages == [[], []]


def test_wrong_input_is_refused_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its handlers
    cases = {
        ("--minutes", "0"): "Expected --minutes above 0, found 0.0.",
        ("--minutes", "nan"): "Expected --minutes above 0, found nan.",
        ("--teacher", "a.py"): "--teacher and --teacher-weights need --data",
        ("--data", "nowhere"): "expected a COCO JSON or a folder with one, and nowhere does not exist.",
    }
    for arguments, message in cases.items():
        assert cli.main(["quickstart", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not any(Path("quickstart").glob("[!.]*"))
