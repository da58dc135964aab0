"""How much of the teacher each picture needs and can trust."""

import math

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import reduce_mean
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import GroundTruth

_MANY = 20
"""Instances in a picture that count as many."""


@MODELS.register_module()
class ContextWeights(nn.Module):
    """Weights of pictures: (1/2 + complexity) times the teacher's trust, with a mean of one over the batch.

    The mean is one over all instances that the teacher found, of all processes: its say as a whole stays
    what it is.

    Complexity, 0 to 1, is a half of how many instances there are, a quarter of how much of them is edge,
    and a quarter of how far their boxes overlap. Trust is the mean score of what the teacher found of them;
    a picture of which it found nothing has weight 0.
    """

    @torch.no_grad()
    def forward(self, truth: GroundTruth, trust: Tensor, found: Tensor) -> Tensor:
        """Weigh the pictures.

        Args:
            truth: the instances.
            trust: (B,).
            found: (B,), how many of its instances the teacher found.

        Returns:
            (B,).
        """
        raw = (0.5 + complexity(truth, len(trust))) * trust
        total, count = reduce_mean(torch.stack([(raw * found).sum(), found.sum().to(raw)]))
        return torch.where(total > 0, raw * count / total.clamp(min=1e-9), raw)


def complexity(truth: GroundTruth, batch: int) -> Tensor:
    """Say how complex pictures are, from 0 to 1: (B,)."""
    assert truth.masks is not None
    masks = (2 * truth.masks.float() > truth.mask_stride**2).float()
    kept = -F.max_pool2d(-masks[:, None], 3, stride=1, padding=1)[:, 0]
    area, inner = (_sum(each.sum((1, 2)), truth.image, batch) for each in (masks, kept))
    count = torch.bincount(truth.image, minlength=batch).to(area)
    edge = torch.where(area > 0, (area - inner) / area.clamp(min=1), 0.0)
    overlap = _sum(_nearest_overlap(truth), truth.image, batch) / count.clamp(min=1)
    many = count.log1p() / math.log1p(_MANY)
    return (0.5 * many + 0.25 * edge + 0.25 * overlap).clamp(0, 1)


def _nearest_overlap(truth: GroundTruth) -> Tensor:
    """Give each instance's highest IoU of its box with another's of its picture: (T,)."""
    iou = bbox_overlaps(truth.boxes, truth.boxes)
    other = truth.image[:, None] == truth.image
    other.fill_diagonal_(False)
    return (iou * other).sum(1) if not len(iou) else (iou * other).amax(1)


def _sum(values: Tensor, image: Tensor, batch: int) -> Tensor:
    return values.new_zeros(batch).index_add(0, image, values)
