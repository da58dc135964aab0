"""Ground truth of a batch as tensors."""

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
    """Gather the instances of a batch.

    Args:
        samples: with `gt_instances`.
        device: where the network is.
        stride: pixels along the side of a cell of the masks.
        size: cells of the masks, down and across; None for boxes alone.
    """
    found = [sample.gt_instances for sample in samples]
    counts = torch.tensor([len(instances) for instances in found])
    return GroundTruth(
        image=torch.arange(len(found)).repeat_interleave(counts).to(device),
        boxes=torch.cat([get_box_tensor(instances.bboxes).to(device).float() for instances in found]),
        labels=torch.cat([instances.labels.to(device) for instances in found]),
        masks=None if size is None else torch.cat([_cells(each, device, stride, size) for each in samples]),
        mask_stride=stride,
        ignore_regions=_doubts(samples, device),
    )


def _doubts(samples: Sequence[DetDataSample], device: torch.device) -> IgnoreRegions | None:
    ignored = [(image, getattr(sample, "ignored_instances", None)) for image, sample in enumerate(samples)]
    labelled = [(image, each) for image, each in ignored if each is not None and "labels" in each]
    if not labelled:
        return None
    labels = torch.cat([each.labels for _, each in labelled])
    doubted = (labels == IGNORE_LABEL).nonzero().flatten()
    if not len(doubted):
        return None
    images = torch.cat([torch.full_like(each.labels, image) for image, each in labelled])
    boxes = torch.cat([get_box_tensor(each.bboxes) for _, each in labelled])
    return IgnoreRegions(images[doubted].to(device), boxes[doubted].to(device).float())


def _cells(sample: DetDataSample, device: torch.device, stride: int, size: tuple[int, int]) -> Tensor:
    """Count the pixels of each cell of `stride` x `stride` that are an instance's, unless the loader has.

    Counts rather than one pixel for each cell: what remains of an outline finer than the stride is where it
    runs, which the network learns as a share, and an instance smaller than a cell does not vanish.

    Returns:
        (instances, height, width), bytes; pictures are padded at the bottom and right.
    """
    instances = sample.gt_instances
    if "mask_cells" in instances:
        cells = _checked(instances.mask_cells, sample.img_shape, stride).to(device)
    elif "masks" in instances:
        pixels = np.ascontiguousarray(instances.masks.to_ndarray(), dtype=np.uint8)
        cells = count_cells(torch.from_numpy(pixels).to(device), stride)
    else:
        raise UserError(
            "Expected masks to learn from (gt_instances.masks), found boxes alone. Set with_mask=True in the "
            "pipeline's LoadAnnotations, or model.bbox_head.mask=None to learn boxes alone."
        )
    return F.pad(cells, (0, size[1] - cells.shape[2], 0, size[0] - cells.shape[1]))


def _checked(cells: Tensor, picture: tuple[int, int], stride: int) -> Tensor:
    expected = tuple(-(-side // stride) for side in picture[:2])
    if cells.shape[1:] != expected:
        raise UserError(
            f"Expected {expected} mask_cells of {stride} x {stride} pixels in a picture of {picture[:2]}, "
            f"found {tuple(cells.shape[1:])}. Set stride={stride} in the pipeline's MaskCells, and change no "
            "size behind it."
        )
    return cells
