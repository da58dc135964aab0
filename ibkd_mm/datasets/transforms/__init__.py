"""How samples are made of pictures."""

from ibkd_mm.datasets.transforms.colours import HSVJitter
from ibkd_mm.datasets.transforms.mask_cells import MaskCells, count_cells
from ibkd_mm.datasets.transforms.mosaic import MosaicAffine
from ibkd_mm.datasets.transforms.paste import PasteInstances
from ibkd_mm.datasets.transforms.picture import IN_DOUBT

__all__ = ["IN_DOUBT", "HSVJitter", "MaskCells", "MosaicAffine", "PasteInstances", "count_cells"]
