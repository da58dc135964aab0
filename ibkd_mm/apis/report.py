"""The call behind `ibkd report`."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ibkd_mm.errors import UserError
from ibkd_mm.report.comparability import check_comparable
from ibkd_mm.report.groups import group_runs
from ibkd_mm.report.model_results import ModelResults
from ibkd_mm.report.model_runs import run_models
from ibkd_mm.report.plot_style import NoDataError
from ibkd_mm.report.sections import Content
from ibkd_mm.report.tables import TextTable, ap_table
from ibkd_mm.report.training_run import read_runs
from ibkd_mm.report.write import write_report


@dataclass(frozen=True)
class Report:
    """The page of a report, its table of mask AP, and what differs besides the teacher."""

    page: Path
    table: TextTable | None
    unequal: Sequence[str]

    def __str__(self) -> str:
        lines = [str(self.table)] if self.table is not None else []
        if self.unequal:
            lines.append(f"Not a fair comparison: {len(self.unequal)} differences, which the page lists.")
        return "\n".join([*lines, f"Wrote {self.page}"])


def report(
    work_dirs: Sequence[str | Path],
    *,
    out_dir: str | Path = "report",
    unequal: bool = False,
    evaluate: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compare trainings with and without a teacher on a page.

    Args:
        work_dirs: those that differ only in their seed are one group; those without a teacher the baseline.
        out_dir: folder for the page, its figures, its numbers and the evaluated predictions.
        unequal: compare trainings that differ in more than the teacher; the page lists the differences.
        evaluate: evaluate the models, for figures that the logs do not have.
        progress: called with the number of images done and their total, instead of progress lines.
    """
    if not work_dirs:
        raise UserError("Expected the work dirs of trainings, found none.")
    folder = Path(out_dir)
    groups = group_runs(read_runs(work_dirs))
    differences = check_comparable(groups, allowed=unequal)
    missing = "The models were not run (--no-evaluate), so the page shows only what the logs contain."
    evaluation = run_models(groups, folder, progress) if evaluate else ModelResults(missing=missing)
    flags = [*(["--unequal"] if unequal else []), *([] if evaluate else ["--no-evaluate"])]
    command = shlex.join(["ibkd", "report", *map(str, work_dirs), "--out-dir", str(folder), *flags])
    content = Content(groups, evaluation, differences, command)
    page = write_report(folder, content)
    try:
        table = ap_table(groups, content.baseline, evaluation, "mask")
    except NoDataError:
        table = None
    return Report(page, table, differences)
