"""The check of data sets before training: what would stop it, spoil it, or be left out unseen."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.data_check.check_splits import check_parts  # noqa: E402
from ibkd_mm.data_check.findings import ERROR, KINDS, NOTE, WARNING, Finding, Report  # noqa: E402
from ibkd_mm.data_check.split_datasets import Part, find_parts  # noqa: E402

__all__ = ["ERROR", "KINDS", "NOTE", "WARNING", "Finding", "Part", "Report", "check_parts", "find_parts"]
