"""Masks as pixel counts of cells: a sixteenth of their size, and all that the student learns from."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.registry import TRANSFORMS


def count_cells(pixels: Tensor, stride: int) -> Tensor:
    """Count the pixels of each instance in each cell of `stride` x `stride` pixels; the stride is at most 15.

    Bytes (N, H, W) of one or zero become bytes (N, H / stride, W / stride), rounded up.
    """
    bottom, right = (-side % stride for side in pixels.shape[1:])
    if bottom or right:
        pixels = F.pad(pixels, (0, right, 0, bottom))
    # rows first, since adding whole rows is fastest
    rows = sum((pixels[:, start::stride] for start in range(1, stride)), pixels[:, ::stride])
    return sum((rows[..., start::stride] for start in range(1, stride)), rows[..., ::stride])


@TRANSFORMS.register_module()
class MaskCells(BaseTransform):
    """Replace the masks of a packed sample by `mask_cells`, so that data loaders transfer less.

    It follows `PackDetInputs` in the pipeline.

    Args:
        stride: side of a cell in pixels, equal to the student's.
    """

    carries_teacher = True  # handles only the teacher's instances: images and ground truth stay the same

    def __init__(self, stride: int = 4) -> None:
        self.stride = stride

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Count the pixels of all masks."""
        sample = results["data_samples"]
        for instances in (sample.gt_instances, sample.ignored_instances):
            if "masks" in instances:
                pixels = np.ascontiguousarray(instances.pop("masks").to_ndarray(), np.uint8)
                instances.mask_cells = count_cells(torch.from_numpy(pixels), self.stride)
        return results
