"""Boxes as distances of their sides from an anchor, each a distribution over whole numbers of strides."""

import torch
from mmdet.structures.bbox import bbox2distance, distance2bbox
from torch import Tensor, nn

# Distances to learn stay that far under the last bin, for the bin above them must be there too.
_MARGIN = 0.01


class DistanceDecoder(nn.Module):
    """Takes the mean of each distribution for the distance.

    Args:
        bins: values that a distribution is over, from 0.
    """

    def __init__(self, *, bins: int) -> None:
        super().__init__()
        # A parameter, since the published counts count it, though nothing trains it.
        self.values = nn.Parameter(torch.arange(float(bins)), requires_grad=False)

    def forward(self, distance_logits: Tensor, anchors: Tensor) -> Tensor:
        """Decode boxes.

        Args:
            distance_logits: (B, 4 * bins, A).
            anchors: x, y and stride, (A, 3), or (B, A, 3) where images have anchors of their own.

        Returns:
            (B, A, 4): x1, y1, x2, y2 in pixels.
        """
        shares = distance_logits.float().unflatten(1, (4, -1)).softmax(dim=2)
        strides = (shares * self.values[:, None]).sum(dim=2).transpose(1, 2)
        return distance2bbox(anchors[..., :2], strides * anchors[..., 2:])


def encode_distances(boxes: Tensor, anchors: Tensor, bins: int) -> Tensor:
    """Give the distances, in strides, that anchors are to predict: (N, 4), (N, 3) -> (N, 4)."""
    stride = anchors[:, 2:]
    return bbox2distance(anchors[:, :2] / stride, boxes / stride, max_dis=bins - 1.0, eps=_MARGIN)
