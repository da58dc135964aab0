"""The check of data sets before training: what would stop it, spoil it, or be left out unseen."""

from ibkd_mm.datasets.check.findings import ERROR, KINDS, NOTE, WARNING, Finding, Report
from ibkd_mm.datasets.check.parts import Part, find_parts
from ibkd_mm.datasets.check.run import check_parts

__all__ = ["ERROR", "KINDS", "NOTE", "WARNING", "Finding", "Part", "Report", "check_parts", "find_parts"]
