"""What is shown of a model: drawings and pages."""

from ibkd_mm.evaluation.montage import montage
from ibkd_mm.evaluation.overlay import overlay
from ibkd_mm.evaluation.page import Grid, Table, write_page

__all__ = ["Grid", "Table", "montage", "overlay", "write_page"]
