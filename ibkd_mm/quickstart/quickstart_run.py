"""The story of distillation: pictures, a teacher's cache, two students, and what came of it."""

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ibkd_mm.apis.cache import cache
from ibkd_mm.apis.report import report
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.errors import UserError
from ibkd_mm.offline.store import CacheReader
from ibkd_mm.quickstart.console import kept_in
from ibkd_mm.quickstart.display import Display, open_display
from ibkd_mm.quickstart.plan import Amounts, Lengths, Plan, only_here
from ibkd_mm.quickstart.recipe import CACHE, DataSource, Recipe, ShapesSource, set_length, write_config
from ibkd_mm.quickstart.time_budget import Pace, fewest, fit, measure, own_threads
from ibkd_mm.quickstart.user_configs import UserDataSource
from ibkd_mm.quickstart.worker_pool import Job, run_beside
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.cores import usable_cores

_TITLES = {
    "data": "data",
    "pace": "lengths, by timing some steps",
    "teacher": "the teacher",
    "cache": "the teacher's cache",
    "baseline": "the student alone",
    "distilled": "the student distilled",
    "report": "the report",
}
_STUDENTS = ("baseline", "distilled")
_SEED = 0
_RESULT, _CONSOLE = "result.txt", "console.txt"
_FEW = 50
_DONE_BEFORE = "done before"


@dataclass(frozen=True)
class QuickstartResult:
    """What came of it."""

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
    """Train a student by itself and distilled, in about so many minutes, and set them beside each other.

    Begun again in the same folder it goes on where it was.

    Args:
        out_dir: folder for everything.
        minutes: for the whole.
        data: a COCO JSON or a folder with one; else Shapes are generated.
        teacher: config of a Mask2Former for the classes of `data`; else a small one is trained.
        teacher_weights: of that teacher.
        spec: what Shapes are made of, where other than their config says.
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"Expected --minutes of more than 0, found {minutes}.")
    if data is None and (teacher or teacher_weights):
        raise UserError("--teacher and --teacher-weights are for --data: Shapes have a teacher that ships.")
    out = Path(out_dir)
    with only_here(out):
        material: DataSource = (
            UserDataSource(Path(data), teacher, teacher_weights) if data else ShapesSource(spec)
        )
        plan = Plan(out, {"minutes": float(minutes), "seed": _SEED, **material.asked})
        if done := _found(out, plan, material.advice):
            return done
        groups = _stages(trains_teacher=bool(data) and teacher is None)
        titles = {stage: _TITLES[stage] for group in groups for stage in group}
        with open_display(titles, groups) as display, kept_in(out / _CONSOLE, display.say):
            try:
                return _Story(out, material, plan, display, 60 * minutes).tell()
            except KeyboardInterrupt:
                display.say("Stopped. The same command goes on from here.")
                raise


def _stages(*, trains_teacher: bool) -> list[list[str]]:
    """Name the stages in order; on CPUs the students learn beside each other."""
    students = [[stage] for stage in _STUDENTS] if torch.cuda.is_available() else [list(_STUDENTS)]
    teacher = [["teacher"]] if trains_teacher else []
    return [["data"], ["pace"], *teacher, ["cache"], *students, ["report"]]


class _Story:
    def __init__(self, out: Path, material: DataSource, plan: Plan, display: Display, seconds: float) -> None:
        self._out, self._material, self._plan = out, material, plan
        self._display, self._seconds, self._begun = display, seconds, perf_counter()

    def tell(self) -> QuickstartResult:
        """Do what is not done yet."""
        for line in self._material.said:
            self._display.say(line)
        recipe, lengths = self._prepare()
        if recipe.teacher:
            self._train(["teacher"], lengths, usable_cores())
        self._cache(recipe, lengths)
        for group in self._display.clock.groups:
            if set(group) & set(_STUDENTS):
                self._train(group, lengths, own_threads())
        self._report()
        done = _found(self._out, self._plan, self._material.advice)
        assert done is not None
        return done

    def _prepare(self) -> tuple[Recipe, Lengths]:
        """Make the data and fix the lengths, or find both; write the configs."""
        if self._plan.lengths is None:
            first = self._make_data()
            self._display.begin("pace")
            with user_errors(first.baseline):
                pace = measure(first)
            measured = self._fit_all(pace)
            self._material.make(self._out, measured.amounts)
            self._plan.fix(measured)
        else:
            self._display.end("data", _DONE_BEFORE)
        lengths = self._plan.lengths
        assert lengths is not None
        recipe = self._material.recipe(self._out, lengths.amounts)
        if recipe.teacher:
            teacher = self._out.resolve() / "teacher" / f"iter_{lengths.teacher_steps}.pth"
            recipe.distilled.model.teacher_ckpt = str(teacher)
        for name, config in recipe.named().items():
            config.randomness = {"seed": _SEED}
            set_length(config, lengths.steps_of(name), lengths.checkpoint_every(name))
            write_config(config, self._out / f"{name}.py")
        self._display.clock.plan(lengths.seconds)
        self._display.end("pace", _told(lengths))
        return recipe, lengths

    def _make_data(self) -> Recipe:
        """Make what is timed: of what can be cut no more than is kept in any case, for reading takes time."""
        self._display.begin("data")
        there = self._material.amounts
        recipe, _ = self._make_sound(fewest(there) if self._material.can_be_cut else there)
        self._display.end("data")
        return recipe

    def _make_sound(self, amounts: Amounts) -> tuple[Recipe, list[str]]:
        """Put so many pictures there, read them all, and give what is to be said of them."""
        self._material.make(self._out, amounts)
        recipe = self._material.recipe(self._out, amounts)
        return recipe, self._material.check_sound(recipe)

    def _fit_all(self, pace: Pace) -> Lengths:
        """Choose the pictures that there is time for, read these alone, and share out what is left then."""
        kept = self._fit(pace, self._material.amounts).amounts
        if self._material.can_be_cut:
            self._display.say(f"Checking {kept.training + kept.held:,} pictures, which there is time for.")
        for line in self._make_sound(kept)[1]:
            self._display.say(line)
        lengths = self._fit(pace, kept)
        if lengths.steps < _FEW:
            self._display.say(
                f"There is time for {lengths.steps} steps alone, from which little is learnt: give more "
                "--minutes."
            )
        return lengths

    def _fit(self, pace: Pace, there: Amounts) -> Lengths:
        """Share out what is left of the time."""
        left = self._seconds - (perf_counter() - self._begun)
        return fit(left, pace, there, can_be_cut=self._material.can_be_cut)

    def _cache(self, recipe: Recipe, lengths: Lengths) -> None:
        file = self._out / CACHE
        if _is_whole(file, lengths.amounts.training):
            self._display.end("cache", _DONE_BEFORE)
            return
        self._display.begin("cache")
        cache(
            recipe.distilled,
            out=str(file),
            progress=lambda done, total: self._display.advance("cache", done, total),
        )
        self._display.end("cache")

    def _train(self, names: Sequence[str], lengths: Lengths, threads: int) -> None:
        jobs = [Job(name, self._out / f"{name}.py", self._out / name, threads) for name in names]
        for job in jobs:
            if job.finished:
                self._display.end(job.name, _DONE_BEFORE)
            else:
                self._display.begin(job.name)

        def tell(job: Job, step: int | None) -> None:
            if step is None:
                self._display.end(job.name)
            else:
                self._display.advance(job.name, step, lengths.steps_of(job.name))

        torch.cuda.empty_cache()  # what was kept for us is theirs
        run_beside([job for job in jobs if not job.finished], tell, self._display.say)

    def _report(self) -> None:
        self._display.begin("report")
        made = report(
            [self._out / name for name in _STUDENTS],
            out_dir=self._out / "report",
            progress=lambda done, total: self._display.advance("report", done, total),
        )
        self._display.end("report")
        with atomic_write(self._out / _RESULT) as partial:
            partial.write_text("\n".join(str(made).splitlines()[:-1]))  # the last is the path of the page


def _found(out: Path, plan: Plan, advice: Sequence[str]) -> QuickstartResult | None:
    """Read what came of it, if it is there; paths are as they are from where this is asked."""
    page, result = out / "report" / "index.html", out / _RESULT
    if plan.lengths is None or not (page.is_file() and result.is_file()):
        return None
    files = out / "distilled.py", out / "distilled" / f"iter_{plan.lengths.steps}.pth", out / "student.onnx"
    after = [f"Wrote {page}", f"Next: ibkd export {shlex.join(map(str, files))}"]
    return QuickstartResult(page, "\n".join([*advice, *result.read_text().splitlines(), *after]))


def _told(lengths: Lengths) -> str:
    teacher = f"{lengths.teacher_steps:,} steps of the teacher, " if lengths.teacher_steps else ""
    pictures = f"{lengths.amounts.training:,} pictures to learn from"
    return f"{pictures}, {teacher}{lengths.steps:,} steps of each student"


def _is_whole(file: Path, pictures: int) -> bool:
    """Tell whether a cache has so many pictures; a broken one is for whoever writes it to name."""
    with suppress(UserError), CacheReader(file) as reader:
        return reader.counts()[0] >= pictures
    return False
