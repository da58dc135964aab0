"""Whether distillation helped: trainings are read, compared and drawn on a page."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.report.content import Content  # noqa: E402
from ibkd_mm.report.evaluated import Evaluated, Evaluation, Instance, Picture, Speed  # noqa: E402
from ibkd_mm.report.fairness import unequal  # noqa: E402
from ibkd_mm.report.groups import Group, group  # noqa: E402
from ibkd_mm.report.tables import ap_table, as_text  # noqa: E402
from ibkd_mm.report.training_run import Run, read_runs  # noqa: E402
from ibkd_mm.report.write import write  # noqa: E402

__all__ = [
    "Content",
    "Evaluated",
    "Evaluation",
    "Group",
    "Instance",
    "Picture",
    "Run",
    "Speed",
    "ap_table",
    "as_text",
    "group",
    "read_runs",
    "unequal",
    "write",
]
