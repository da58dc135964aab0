"""What enters: the embedded data, transforms, and the loading of what teachers said."""

from ibkd_mm.datasets.shapes import ShapesDataset

__all__ = ["ShapesDataset"]
