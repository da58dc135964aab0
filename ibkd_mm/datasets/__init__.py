"""What enters a model: the embedded data."""

from ibkd_mm.datasets.shapes import ShapesDataset

__all__ = ["ShapesDataset"]
