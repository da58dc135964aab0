"""How layers are made and scaled: what all parts of the network agree on."""

import math
from dataclasses import dataclass
from typing import Any

from mmcv.cnn import ConvModule


class ConvLayer(ConvModule):
    """Convolution, norm and activation that start from PyTorch's values, as the published training did."""

    def init_weights(self) -> None:
        """Leave the values as they were drawn; mmcv would draw others."""


@dataclass(frozen=True)
class Layers:
    """Makes convolutions with one kind of norm and activation behind them.

    Args:
        norm_cfg: norm layer, as mmcv's.
        act_cfg: activation layer, as mmcv's.
    """

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
        """Make a convolution that keeps the size, but for its stride; without activation if not `act`."""
        return ConvLayer(
            inputs,
            outputs,
            kernel,
            stride,
            padding=kernel // 2,
            groups=groups,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg if act else None,
            inplace=False,  # in place, autograd would copy the input first
        )

    def depthwise(self, channels: int, kernel: int, stride: int = 1, *, act: bool = True) -> ConvLayer:
        """Make a convolution of each channel by itself."""
        return self.conv(channels, channels, kernel, stride, groups=channels, act=act)


def scaled_channels(nominal: int, widen_factor: float, max_channels: int) -> int:
    """Scale channels, capped before and rounded up to a multiple of eight after."""
    return math.ceil(min(nominal, max_channels) * widen_factor / 8) * 8


def scaled_repeats(nominal: int, deepen_factor: float) -> int:
    """Scale the number of blocks in a row, of which one is left at least."""
    return max(round(nominal * deepen_factor), 1)
