"""Collect the ground truth of a batch as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.datasets.transforms import IGNORE_LABEL, count_cells
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.structures import GroundTruth, IgnoreRegions


def collect_truth(
    samples: Sequence[DetDataSample], device: torch.device, stride: int, size: tuple[int, int] | None
) -> GroundTruth:
    """Concatenate the instances of a batch.

    `size` is the height and width of the masks in cells of `stride` pixels; None for boxes only.
    """
    instances = [sample.gt_instances for sample in samples]
    counts = torch.tensor([len(each) for each in instances])
    masks = None if size is None else torch.cat([_mask_cells(each, device, stride, size) for each in samples])
    return GroundTruth(
        image=torch.arange(len(instances)).repeat_interleave(counts).to(device),
        boxes=torch.cat([get_box_tensor(each.bboxes).to(device).float() for each in instances]),
        labels=torch.cat([each.labels.to(device) for each in instances]),
        masks=masks,
        mask_stride=stride,
        ignore_regions=_ignore_regions(samples, device),
    )


def _ignore_regions(samples: Sequence[DetDataSample], device: torch.device) -> IgnoreRegions | None:
    ignored = [(image, getattr(sample, "ignored_instances", None)) for image, sample in enumerate(samples)]
    labelled = [(image, each) for image, each in ignored if each is not None and "labels" in each]
    if not labelled:
        return None
    labels = torch.cat([each.labels for _, each in labelled])
    regions = (labels == IGNORE_LABEL).nonzero().flatten()
    if not len(regions):
        return None
    images = torch.cat([torch.full_like(each.labels, image) for image, each in labelled])
    boxes = torch.cat([get_box_tensor(each.bboxes) for _, each in labelled])
    return IgnoreRegions(images[regions].to(device), boxes[regions].to(device).float())


def _mask_cells(sample: DetDataSample, device: torch.device, stride: int, size: tuple[int, int]) -> Tensor:
    """Count the pixels of an instance in each cell, unless the data loader did: (instances, *size) uint8.

    Counts keep outlines that are finer than the stride, as fractions, and instances smaller than a cell.
    """
    instances = sample.gt_instances
    if "mask_cells" in instances:
        cells, image = instances.mask_cells, sample.img_shape[:2]
        expected = tuple(-(-side // stride) for side in image)
        if cells.shape[1:] != expected:
            raise UserError(
                f"Expected {expected} mask_cells of {stride} x {stride} pixels in an image of {image}, "
                f"found {tuple(cells.shape[1:])}. Set stride={stride} in the pipeline's MaskCells, and do "
                "not change the size after it."
            )
        cells = cells.to(device)
    elif "masks" in instances:
        pixels = np.ascontiguousarray(instances.masks.to_ndarray(), dtype=np.uint8)
        cells = count_cells(torch.from_numpy(pixels).to(device), stride)
    else:
        raise UserError(
            "Expected masks (gt_instances.masks), found boxes only. Set with_mask=True in the pipeline's "
            "LoadAnnotations, or model.bbox_head.mask=None to train boxes only."
        )
    return F.pad(cells, (0, size[1] - cells.shape[2], 0, size[0] - cells.shape[1]))
