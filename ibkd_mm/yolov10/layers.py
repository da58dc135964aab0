"""Convolution layers and scaling rules that all parts of the network share."""

import math
from dataclasses import dataclass
from typing import Any

from mmcv.cnn import ConvModule


class ConvLayer(ConvModule):
    """Convolution, norm and activation with PyTorch's initial values, as in the published training."""

    def init_weights(self) -> None:
        """Keep the initial values; mmcv would draw others."""


@dataclass(frozen=True)
class Layers:
    """Builds convolutions that share one type of norm and activation, configured as in mmcv."""

    norm_cfg: dict[str, Any]
    act_cfg: dict[str, Any]

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: bool = True,
    ) -> ConvLayer:
        """Build a convolution with `same` padding, with an activation if `act`."""
        return ConvLayer(
            inputs,
            outputs,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg if act else None,
            inplace=False,  # in-place activation would make autograd copy the input
        )

    def depthwise(self, channels: int, kernel: int, stride: int = 1, *, act: bool = True) -> ConvLayer:
        """Build a depth-wise convolution."""
        return self.conv(channels, channels, kernel, stride, groups=channels, act=act)


def scaled_channels(nominal: int, widen_factor: float, max_channels: int) -> int:
    """Cap and scale a number of channels, and round it up to a multiple of eight."""
    return math.ceil(min(nominal, max_channels) * widen_factor / 8) * 8


def scaled_repeats(nominal: int, deepen_factor: float) -> int:
    """Scale the number of blocks in a row; it is at least one."""
    return max(round(nominal * deepen_factor), 1)
