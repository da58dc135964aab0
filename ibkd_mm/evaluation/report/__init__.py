"""Whether distillation helped: trainings are read, compared and drawn on a page."""

from ibkd_mm.evaluation.report.content import Content
from ibkd_mm.evaluation.report.equal import unequal
from ibkd_mm.evaluation.report.evaluated import Evaluated, Evaluation, Instance, Picture, Speed
from ibkd_mm.evaluation.report.groups import Group, group
from ibkd_mm.evaluation.report.run import Run, read_runs
from ibkd_mm.evaluation.report.tables import ap_table, as_text
from ibkd_mm.evaluation.report.writing import write

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
