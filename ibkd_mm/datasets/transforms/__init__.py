"""Transforms that make training samples of images."""

from ibkd_mm.datasets.transforms.annotated_image import IGNORE_LABEL
from ibkd_mm.datasets.transforms.hsv_jitter import HSVJitter
from ibkd_mm.datasets.transforms.mask_cells import MaskCells, count_cells
from ibkd_mm.datasets.transforms.mosaic import MosaicAffine
from ibkd_mm.datasets.transforms.paste import PasteInstances

__all__ = ["IGNORE_LABEL", "HSVJitter", "MaskCells", "MosaicAffine", "PasteInstances", "count_cells"]
