"""Datasets and the transforms that make training samples of images."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.datasets import transforms as transforms  # noqa: E402
from ibkd_mm.datasets.image_folder import ImageFolder  # noqa: E402
from ibkd_mm.datasets.shapes import ShapesDataset  # noqa: E402

__all__ = ["ImageFolder", "ShapesDataset"]
