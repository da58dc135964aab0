"""Run a quickstart: data, a cache of the teacher's predictions, two students, and a report on both."""

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import torch

from ibkd_mm.apis.cache import cache
from ibkd_mm.apis.report import report
from ibkd_mm.config.edit import set_training_length, write_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.errors import UserError
from ibkd_mm.offline.store import CacheReader
from ibkd_mm.quickstart.display import Display, redirect_output
from ibkd_mm.quickstart.plan import ImageCounts, Plan, RunLengths, lock_output_folder
from ibkd_mm.quickstart.recipe import CACHE_FILE, Recipe, ShapesSource
from ibkd_mm.quickstart.time_budget import Pace, divide_time, measure, minimum_images, student_threads
from ibkd_mm.quickstart.user_configs import UserDataSource
from ibkd_mm.quickstart.worker_pool import Training, run_trainings
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.cores import usable_cores

_TITLES = {
    "data": "data",
    "pace": "plan, by timing some steps",
    "teacher": "the teacher",
    "cache": "the teacher's cache",
    "baseline": "the student alone",
    "distilled": "the student distilled",
    "report": "the report",
}
_STUDENTS = ("baseline", "distilled")
_SEED = 0
_RESULT_FILE, _CONSOLE_FILE = "result.txt", "console.txt"
_FEW_STEPS = 50
_ALREADY_DONE = "already done"

Source: TypeAlias = ShapesSource | UserDataSource


@dataclass(frozen=True)
class QuickstartResult:
    """The page of the report and the text that the command prints."""

    page: Path
    text: str

    def __str__(self) -> str:
        return self.text


def run(
    out_dir: str | Path = "quickstart",
    minutes: float = 10,
    data: str | Path | None = None,
    teacher: str | None = None,
    teacher_weights: str | None = None,
    spec: dict[str, Any] | None = None,
) -> QuickstartResult:
    """Train a student alone and with a teacher in about that many minutes, and compare both.

    Called again with the same arguments after an interruption, it continues.

    Args:
        out_dir: output folder.
        minutes: time for everything.
        data: a COCO JSON or a folder with one; else Shapes are generated.
        teacher: config of a Mask2Former for the classes of `data`; else a small one is trained.
        teacher_weights: checkpoint of that teacher.
        spec: settings of the generated Shapes that differ from those of their config.
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"Expected --minutes above 0, found {minutes}.")
    if data is None and (teacher or teacher_weights):
        raise UserError("--teacher and --teacher-weights need --data: Shapes come with a teacher.")
    out = Path(out_dir)
    with lock_output_folder(out):
        source: Source = UserDataSource(Path(data), teacher, teacher_weights) if data else ShapesSource(spec)
        plan = Plan(out, {"minutes": float(minutes), "seed": _SEED, **source.inputs})
        if result := _read_result(out, plan, source.advice):
            return result
        groups = _stages(trains_teacher=bool(data) and teacher is None)
        titles = {stage: _TITLES[stage] for group in groups for stage in group}
        with Display(titles, groups) as display, redirect_output(out / _CONSOLE_FILE, display.message):
            try:
                return QuickstartRun(out, source, plan, display, 60 * minutes).run()
            except KeyboardInterrupt:
                display.message("Stopped. The same command continues from here.")
                raise


class QuickstartRun:
    """One start of a quickstart that may take so many seconds; it skips what former starts have done."""

    def __init__(self, out: Path, source: Source, plan: Plan, display: Display, seconds: float) -> None:
        self._out, self._source, self._plan, self._display = out, source, plan, display
        self._deadline = perf_counter() + seconds

    def run(self) -> QuickstartResult:
        """Run all stages that are not done."""
        for message in self._source.messages:
            self._display.message(message)
        recipe, lengths = self.prepare()
        if recipe.teacher:
            self._train(["teacher"], lengths, usable_cores())
        self._cache(recipe, lengths)
        for group in (group for group in self._display.groups if set(group) & set(_STUDENTS)):
            self._train(group, lengths, student_threads())
        self._report()
        result = _read_result(self._out, self._plan, self._source.advice)
        assert result is not None
        return result

    def prepare(self) -> tuple[Recipe, RunLengths]:
        """Prepare the data and the lengths of all stages, or find both; write the configs."""
        if self._plan.lengths:
            self._display.end("data", _ALREADY_DONE)
        lengths = self._plan.lengths or self._make_plan()
        recipe = self._source.recipe(self._out, lengths.images)
        if recipe.teacher:
            checkpoint = self._training("teacher", lengths).final_checkpoint
            recipe.distilled.model.teacher_ckpt = str(checkpoint.resolve())
        for stage, config in recipe.configs().items():
            config.randomness = {"seed": _SEED}
            set_training_length(config, lengths.training_steps(stage), lengths.checkpoint_interval(stage))
            write_config(config, self._out / f"{stage}.py")
        self._display.plan(lengths.seconds)
        teacher = f"{lengths.teacher_steps:,} steps of the teacher, " if lengths.teacher_steps else ""
        images = f"{lengths.images.training:,} training images"
        self._display.end("pace", f"{images}, {teacher}{lengths.steps:,} steps of each student")
        return recipe, lengths

    def _make_plan(self) -> RunLengths:
        """Plan all stages after timing this machine on the first images, as reading all may take long."""
        available, can_be_reduced = self._source.images, self._source.can_be_reduced
        self._display.begin("data")
        recipe, _ = self._prepare_data(minimum_images(available) if can_be_reduced else available)
        self._display.end("data")
        self._display.begin("pace")
        with user_errors(recipe.baseline):
            pace = measure(recipe)
        images = self._divide_time(pace, available).images
        if can_be_reduced:
            total = images.training + images.validation
            self._display.message(f"Checking the {total:,} images that there is time for.")
        for warning in self._prepare_data(images)[1]:
            self._display.message(warning)
        lengths = self._divide_time(pace, images)  # checking has taken some of the time
        if lengths.steps < _FEW_STEPS:
            few = f"There is only time for {lengths.steps} steps, in which a student learns little."
            self._display.message(f"{few} Give more --minutes.")
        self._source.prepare(self._out, lengths.images)
        self._plan.set_lengths(lengths)
        return lengths

    def _prepare_data(self, images: ImageCounts) -> tuple[Recipe, list[str]]:
        self._source.prepare(self._out, images)
        recipe = self._source.recipe(self._out, images)
        return recipe, self._source.check(recipe)

    def _divide_time(self, pace: Pace, available: ImageCounts) -> RunLengths:
        remaining = self._deadline - perf_counter()
        return divide_time(remaining, pace, available, can_be_reduced=self._source.can_be_reduced)

    def _cache(self, recipe: Recipe, lengths: RunLengths) -> None:
        file = self._out / CACHE_FILE
        with suppress(UserError), CacheReader(file) as reader:  # `cache` reports a broken file
            if reader.counts()[0] >= lengths.images.training:
                self._display.end("cache", _ALREADY_DONE)
                return
        self._display.begin("cache")
        cache(recipe.distilled, out=str(file), progress=partial(self._display.advance, "cache"))
        self._display.end("cache")

    def _train(self, stages: Sequence[str], lengths: RunLengths, threads: int) -> None:
        unfinished = []
        for training in (self._training(stage, lengths, threads) for stage in stages):
            if training.is_complete():
                self._display.end(training.name, _ALREADY_DONE)
            else:
                self._display.begin(training.name)
                unfinished.append(training)
        torch.cuda.empty_cache()  # leave the memory to the trainings
        run_trainings(
            unfinished,
            on_step=lambda training, step: self._display.advance(training.name, step, training.steps),
            on_end=lambda training: self._display.end(training.name),
            warn=self._display.message,
        )

    def _training(self, stage: str, lengths: RunLengths, threads: int = 1) -> Training:
        steps = lengths.training_steps(stage)
        return Training(stage, self._out / f"{stage}.py", self._out / stage, steps, threads)

    def _report(self) -> None:
        self._display.begin("report")
        work_dirs = [self._out / student for student in _STUDENTS]
        progress = partial(self._display.advance, "report")
        written = report(work_dirs, out_dir=self._out / "report", progress=progress)
        self._display.end("report")
        with atomic_write(self._out / _RESULT_FILE) as file:
            file.write_text("\n".join(str(written).splitlines()[:-1]))  # without the path of the page


def _stages(*, trains_teacher: bool) -> list[list[str]]:
    """Return the stages in order; the students train side by side on CPUs, one at a time on a GPU."""
    students = [[stage] for stage in _STUDENTS] if torch.cuda.is_available() else [list(_STUDENTS)]
    teacher = [["teacher"]] if trains_teacher else []
    return [["data"], ["pace"], *teacher, ["cache"], *students, ["report"]]


def _read_result(out: Path, plan: Plan, advice: Sequence[str]) -> QuickstartResult | None:
    """Return the result if it is there, with paths as seen from the current folder."""
    page, result = out / "report" / "index.html", out / _RESULT_FILE
    if plan.lengths is None or not (page.is_file() and result.is_file()):
        return None
    files = out / "distilled.py", out / "distilled" / f"iter_{plan.lengths.steps}.pth", out / "student.onnx"
    last = [f"Wrote {page}", f"Next: ibkd export {shlex.join(map(str, files))}"]
    return QuickstartResult(page, "\n".join([*advice, *result.read_text().splitlines(), *last]))
