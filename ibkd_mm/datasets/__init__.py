"""What enters a model: the embedded data, and how samples are made of pictures."""

from ibkd_mm.datasets import transforms as transforms
from ibkd_mm.datasets.picture_folder import PictureFolder
from ibkd_mm.datasets.shapes import ShapesDataset

__all__ = ["PictureFolder", "ShapesDataset"]
