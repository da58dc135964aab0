"""Comparison of trainings with and without a teacher: read, compared and shown on a page."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.report.comparability import check_comparable  # noqa: E402
from ibkd_mm.report.content import Content  # noqa: E402
from ibkd_mm.report.groups import Group, group_runs  # noqa: E402
from ibkd_mm.report.model_results import (  # noqa: E402
    Instance,
    ModelResult,
    ModelResults,
    Speed,
    ValidationImage,
)
from ibkd_mm.report.tables import TextTable, ap_table  # noqa: E402
from ibkd_mm.report.training_run import Run, read_runs  # noqa: E402
from ibkd_mm.report.write import write_report  # noqa: E402

__all__ = [
    "Content",
    "Group",
    "Instance",
    "ModelResult",
    "ModelResults",
    "Run",
    "Speed",
    "TextTable",
    "ValidationImage",
    "ap_table",
    "check_comparable",
    "group_runs",
    "read_runs",
    "write_report",
]
