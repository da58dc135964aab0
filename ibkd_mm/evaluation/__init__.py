"""Metrics, drawings and reports."""

from ibkd_mm.evaluation.overlay import overlay
from ibkd_mm.evaluation.page import Grid, Table, write_page

__all__ = ["Grid", "Table", "overlay", "write_page"]
