"""Boxes as distances of their sides from an anchor, each a distribution over integer numbers of strides."""

import torch
from mmdet.structures.bbox import bbox2distance, distance2bbox
from torch import Tensor, nn

# Target distances stay this far below the last bin, because the bin above a target must exist.
_MARGIN = 0.01


class DistanceDecoder(nn.Module):
    """Decodes each distance as the mean of its distribution, which has `bins` values from 0."""

    def __init__(self, *, bins: int) -> None:
        super().__init__()
        # a parameter although it is never trained, because the published parameter counts include it
        self.values = nn.Parameter(torch.arange(float(bins)), requires_grad=False)

    def forward(self, distance_logits: Tensor, anchors: Tensor) -> Tensor:
        """Decode boxes in pixels: (B, 4 * bins, A), (A, 3) or for each image (B, A, 3) -> (B, A, 4)."""
        probabilities = distance_logits.float().unflatten(1, (4, -1)).softmax(dim=2)
        strides = (probabilities * self.values[:, None]).sum(dim=2).transpose(1, 2)
        return distance2bbox(anchors[..., :2], strides * anchors[..., 2:])


def encode_distances(boxes: Tensor, anchors: Tensor, bins: int) -> Tensor:
    """Return the target distances of anchors, in strides: (N, 4), (N, 3) -> (N, 4)."""
    stride = anchors[:, 2:]
    return bbox2distance(anchors[:, :2] / stride, boxes / stride, max_dis=bins - 1.0, eps=_MARGIN)
