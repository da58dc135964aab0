"""Check datasets before training for what would stop it, teach it something wrong, or be dropped silently."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.data_check.check_splits import check_datasets  # noqa: E402
from ibkd_mm.data_check.config_datasets import find_datasets  # noqa: E402
from ibkd_mm.data_check.findings import ERROR, KINDS, NOTE, WARNING, Finding, Report  # noqa: E402

__all__ = ["ERROR", "KINDS", "NOTE", "WARNING", "Finding", "Report", "check_datasets", "find_datasets"]
