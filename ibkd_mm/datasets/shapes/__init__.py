"""Shapes, the embedded dataset: generated instead of downloaded."""

from ibkd_mm.datasets.shapes.build import ShapesDataset, ShapesSpec, ensure_shapes
from ibkd_mm.datasets.shapes.outlines import CLASSES, PALETTE

__all__ = ["CLASSES", "PALETTE", "ShapesDataset", "ShapesSpec", "ensure_shapes"]
