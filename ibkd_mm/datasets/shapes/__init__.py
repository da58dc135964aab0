"""Shapes, the embedded dataset: generated instead of downloaded."""

from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.datasets.shapes.dataset import ShapesDataset
from ibkd_mm.datasets.shapes.outlines import CLASSES, PALETTE

__all__ = ["CLASSES", "PALETTE", "ShapesDataset", "ShapesSpec", "ensure_shapes"]
