"""Weights of images by their complexity and by the trust in the teacher."""

import math

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import reduce_mean
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import GroundTruth

_MANY = 20  # instances of an image whose count adds its full part to the complexity


@MODELS.register_module()
class ContextWeights(nn.Module):
    """Weights of images: (1/2 + complexity) times the trust in the teacher, with mean 1 over the batch.

    The mean is over all matched instances of all processes, so that the total weight of the teacher stays the
    same. Complexity, 0 to 1, is half the number of instances (logarithmic), a quarter the share of their mask
    cells at an edge, and a quarter the overlap of their boxes. Trust is the mean score of the teacher's
    matched instances; an image without a match has weight 0.
    """

    @torch.no_grad()
    def forward(self, truth: GroundTruth, trust: Tensor, matched: Tensor) -> Tensor:
        """Return the weights of the images, (B,), from trust and number of matched instances, (B,) each."""
        raw = (0.5 + complexity(truth, len(trust))) * trust
        total, count = reduce_mean(torch.stack([(raw * matched).sum(), matched.sum().to(raw)]))
        return torch.where(total > 0, raw * count / total.clamp(min=1e-9), raw)


def complexity(truth: GroundTruth, batch: int) -> Tensor:
    """Return the complexity of each image, 0 to 1: (B,)."""
    assert truth.masks is not None
    masks = (2 * truth.masks.float() > truth.mask_stride**2).float()
    eroded = -F.max_pool2d(-masks[:, None], 3, stride=1, padding=1)[:, 0]
    area, inner = (_sum(each.sum((1, 2)), truth.image, batch) for each in (masks, eroded))
    count = torch.bincount(truth.image, minlength=batch).to(area)
    edge = torch.where(area > 0, (area - inner) / area.clamp(min=1), 0.0)
    iou = bbox_overlaps(truth.boxes, truth.boxes) * (truth.image[:, None] == truth.image)
    highest = iou.fill_diagonal_(0).amax(1) if len(iou) else iou.sum(1)  # of each with another one
    overlap = _sum(highest, truth.image, batch) / count.clamp(min=1)
    number = count.log1p() / math.log1p(_MANY)
    return (0.5 * number + 0.25 * edge + 0.25 * overlap).clamp(0, 1)


def _sum(values: Tensor, image: Tensor, batch: int) -> Tensor:
    return values.new_zeros(batch).index_add(0, image, values)
