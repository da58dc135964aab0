"""Complete IoU of boxes, and a loss based on it."""

import math

import torch
from torch import Tensor, nn

from ibkd_mm.registry import MODELS

_EPS = 1e-7


def complete_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Compute the complete IoU of pairs of boxes (https://arxiv.org/abs/2005.03572), (..., 4) x 2 -> (...).

    This is the IoU, minus the squared distance of the centres over the squared diagonal of the enclosing box,
    minus a weighted difference of aspect ratios. mmdet's loss skips the last term if the IoU is below 0.5.
    """
    left_top, right_bottom = boxes[..., :2], boxes[..., 2:]
    target_left_top, target_right_bottom = targets[..., :2], targets[..., 2:]
    size, target_size = right_bottom - left_top, target_right_bottom - target_left_top
    overlap = torch.min(right_bottom, target_right_bottom) - torch.max(left_top, target_left_top)
    intersection = _area(overlap.clamp(min=0))
    iou = intersection / (_area(size) + _area(target_size) - intersection + _EPS)

    enclosing = torch.max(right_bottom, target_right_bottom) - torch.min(left_top, target_left_top)
    diagonal = enclosing.square().sum(-1) + _EPS
    centres = left_top + right_bottom - target_left_top - target_right_bottom
    distance = centres.square().sum(-1) / 4

    angle = _aspect_angle(size) - _aspect_angle(target_size)
    aspect = (4 / math.pi**2) * angle.square()
    weight = (aspect / (1 - iou + aspect + _EPS)).detach()
    return iou - distance / diagonal - weight * aspect


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]


def _aspect_angle(size: Tensor) -> Tensor:
    return (size[..., 0] / (size[..., 1] + _EPS)).atan()


@MODELS.register_module()
class CompleteIoULoss(nn.Module):
    """One minus the complete IoU."""

    def __init__(self, *, loss_weight: float) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, boxes: Tensor, targets: Tensor, weight: Tensor, normaliser: Tensor) -> Tensor:
        """Sum over pairs of boxes (N, 4) with weights (N,), divided by the normaliser."""
        return self.loss_weight * ((1 - complete_iou(boxes, targets)) * weight).sum() / normaliser
