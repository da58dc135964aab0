"""What is shown of a model: drawings and pages."""

from ibkd_mm.evaluation.overlay import overlay
from ibkd_mm.evaluation.page import Table

__all__ = ["Table", "overlay"]
