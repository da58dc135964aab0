"""The neck: combines the feature maps of all levels."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.blocks import C2f, SCDown, make_c2f
from ibkd_mm.yolov10.layers import Layers, scaled_channels, scaled_repeats


@MODELS.register_module()
class YOLOv10PAFPN(BaseModule):
    """A path aggregation network of C2f blocks: from coarse to fine and back.

    Args:
        in_channels: nominal channels of the levels at strides 8, 16 and 32, of inputs and outputs.
        compact_blocks: the blocks made of compact inverted blocks: `down16` and `down8` on the way to the
            fine level, `up16` and `up32` on the way back.
        others: as for `YOLOv10Backbone`.
    """

    repeats = 3  # nominal number of blocks in a row

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        deepen_factor: float,
        widen_factor: float,
        max_channels: int,
        compact_blocks: Sequence[str],
        large_kernel: bool,
        norm_cfg: dict[str, Any],
        act_cfg: dict[str, Any],
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        layers = Layers(norm_cfg, act_cfg)
        repeats = scaled_repeats(self.repeats, deepen_factor)
        c2f = partial(make_c2f, layers, repeats=repeats, large_kernel=large_kernel)
        fine, middle, coarse = (
            scaled_channels(nominal, widen_factor, max_channels) for nominal in in_channels
        )

        def block(name: str, inputs: int, outputs: int) -> C2f:
            compact = name in compact_blocks
            return c2f(inputs, outputs, shortcut=compact, compact=compact)

        self.down16 = block("down16", coarse + middle, middle)
        self.down8 = block("down8", middle + fine, fine)
        self.shrink8 = layers.conv(fine, fine, 3, 2)
        self.up16 = block("up16", fine + middle, middle)
        self.shrink16 = SCDown(layers, middle, middle)
        self.up32 = block("up32", middle + coarse, coarse)

    def forward(self, levels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Combine the levels: three of (B, C, H/s, W/s) -> three of the same shapes."""
        fine, middle, coarse = levels
        middle = self.down16(torch.cat([_double(coarse), middle], dim=1))
        fine = self.down8(torch.cat([_double(middle), fine], dim=1))
        middle = self.up16(torch.cat([self.shrink8(fine), middle], dim=1))
        coarse = self.up32(torch.cat([self.shrink16(middle), coarse], dim=1))
        return fine, middle, coarse


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
