"""Sigmoid focal loss for each logit."""

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype

_SMALLEST = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each logit (N, C) into `output`.

    `target` (N,) are labels, background outside 0..C-1; `weight` is (C,), or empty.
    """
    p, positive = _probabilities(input, target)
    loss_positive = (1 - p) ** gamma * p.clamp(min=_SMALLEST).log()
    loss_negative = p**gamma * (1 - p).clamp(min=_SMALLEST).log()
    loss = -torch.where(positive, alpha * loss_positive, (1 - alpha) * loss_negative)
    output.copy_(loss * _label_weights(weight, target, input.size(1)))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each logit's loss into `grad_input`; shapes as in the forward pass."""
    p, positive = _probabilities(input, target)
    log_p, log_q = p.clamp(min=_SMALLEST).log(), (1 - p).clamp(min=_SMALLEST).log()
    slope_positive = (1 - p) ** gamma * (1 - p - gamma * p * log_p)
    slope_negative = p**gamma * (gamma * (1 - p) * log_q - p)
    slope = -torch.where(positive, alpha * slope_positive, (1 - alpha) * slope_negative)
    grad_input.copy_(slope * _label_weights(weight, target, input.size(1)))


def _probabilities(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return sigmoid(input) and whether a logit belongs to the target class, both (N, C)."""
    classes = torch.arange(input.size(1), device=input.device)
    return input.detach().to(compute_dtype(input)).sigmoid(), target[:, None] == classes


def _label_weights(weight: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Return (N, 1) factors; 1 for background, where mmcv's kernel reads past the end of `weight`."""
    weight = weight.to(compute_dtype(weight))
    if weight.numel() == 0:
        return weight.new_ones(1)
    inside = (target >= 0) & (target < num_classes)
    return torch.where(inside, weight[target.clamp(0, num_classes - 1)], weight.new_ones(()))[:, None]
