"""One branch of the head: from feature maps to scores, boxes and mask coefficients of all anchors."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibkd_mm.yolov10.layers import Layers
from ibkd_mm.yolov10.structures import HeadOutputs

_MIN_BOX_CHANNELS = 64
_MAX_CLASS_CHANNELS = 100


class PredictionBranch(nn.Module):
    """Towers of convolutions for each level. Those for classes are light: classification is the easier task.

    `bins` is the number of values in the distribution of a distance; `prototypes` is 0 for boxes only.
    """

    def __init__(
        self, layers: Layers, in_channels: Sequence[int], *, num_classes: int, bins: int, prototypes: int
    ) -> None:
        super().__init__()
        finest = in_channels[0]
        box = max(finest // 4, bins, _MIN_BOX_CHANNELS)
        cls = max(finest, min(num_classes, _MAX_CLASS_CHANNELS))
        mask = max(finest // 4, prototypes)
        self.class_towers = nn.ModuleList(_light(layers, width, cls, num_classes) for width in in_channels)
        self.box_towers = nn.ModuleList(_plain(layers, width, box, 4 * bins) for width in in_channels)
        self.mask_towers: nn.ModuleList | None = None
        if prototypes:
            self.mask_towers = nn.ModuleList(_plain(layers, width, mask, prototypes) for width in in_channels)

    @torch.no_grad()
    def start_from(self, strides: Sequence[int], instances: float, size: int) -> None:
        """Initialise scores to the prior of `instances` in an image of `size` x `size`."""
        for stride, tower in zip(strides, self.class_towers, strict=True):
            scores = _last_bias(tower)
            scores.fill_(math.log(instances / len(scores) / (size / stride) ** 2))
        for tower in self.box_towers:
            _last_bias(tower).fill_(1.0)

    def forward(self, features: Sequence[Tensor]) -> HeadOutputs:
        """Predict for all anchors: (B, C, H/s, W/s) for each level -> outputs without prototypes."""
        return HeadOutputs(
            class_logits=_for_anchors(self.class_towers, features),
            distance_logits=_for_anchors(self.box_towers, features),
            coefficients=None if self.mask_towers is None else _for_anchors(self.mask_towers, features),
        )


def _plain(layers: Layers, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    first, second = layers.conv(inputs, hidden, 3), layers.conv(hidden, hidden, 3)
    return nn.Sequential(first, second, nn.Conv2d(hidden, outputs, 1))


def _light(layers: Layers, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    first = layers.depthwise(inputs, 3), layers.conv(inputs, hidden)
    second = layers.depthwise(hidden, 3), layers.conv(hidden, hidden)
    return nn.Sequential(*first, *second, nn.Conv2d(hidden, outputs, 1))


def _last_bias(tower: nn.Module) -> Tensor:
    return list(tower.parameters())[-1]


def _for_anchors(towers: nn.ModuleList, features: Sequence[Tensor]) -> Tensor:
    """Apply the tower of each level and concatenate the levels, -> (B, C, A)."""
    return torch.cat([tower(x).flatten(2) for tower, x in zip(towers, features, strict=True)], dim=2)
