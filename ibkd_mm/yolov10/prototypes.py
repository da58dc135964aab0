"""Mask prototypes: the mask of each instance is a weighted sum of them."""

from torch import Tensor, nn

from ibkd_mm.yolov10.layers import Layers


class Prototypes(nn.Module):
    """Computes prototypes from the finest level, at half its stride (https://arxiv.org/abs/1904.02689)."""

    def __init__(self, layers: Layers, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.reduce = layers.conv(inputs, hidden, 3)
        self.enlarge = nn.ConvTranspose2d(hidden, hidden, 2, 2)
        self.refine = layers.conv(hidden, hidden, 3)
        self.project = layers.conv(hidden, outputs)

    def forward(self, finest: Tensor) -> Tensor:
        """Compute prototypes, (B, inputs, H, W) -> (B, outputs, 2 H, 2 W)."""
        return self.project(self.refine(self.enlarge(self.reduce(finest))))
