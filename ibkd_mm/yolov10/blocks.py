"""Blocks of YOLOv10's backbone and neck: C2f, compact inverted blocks, separated down-sampling, pooling."""

from collections.abc import Callable

import torch
from mmcv.cnn import build_activation_layer
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.yolov10.layers import ConvLayer, Layers


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, with the input added if `shortcut`. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, layers: Layers, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = layers.conv(channels, channels, 3)
        self.conv2 = layers.conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Transform the feature map, (N, C, H, W) -> (N, C, H, W)."""
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class LargeKernelDW(nn.Module):
    """Parallel depth-wise 7x7 and 3x3 convolutions, fused into one 7x7 for deployment (RepVGGDW).

    The small kernel makes the large one easier to train; `fuse` adds it to the centre of the large one.
    """

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        self.large = layers.depthwise(channels, 7, act=False)
        self.small: ConvLayer | None = layers.depthwise(channels, 3, act=False)
        self.act = build_activation_layer(layers.act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Transform the feature map, (N, C, H, W) -> (N, C, H, W)."""
        y = self.large(x)
        return self.act(y if self.small is None else y + self.small(x))

    @torch.no_grad()
    def fuse(self) -> None:
        """Merge both kernels; their norms must be folded into them already."""
        if self.small is not None:
            large, small = self.large.conv, self.small.conv
            margin = (large.kernel_size[0] - small.kernel_size[0]) // 2
            large.weight += F.pad(small.weight, [margin] * 4)
            large.bias += small.bias
            self.small = None


class CompactInvertedBlock(nn.Module):
    """Depth-wise convolutions around and between two 1x1 that double and restore the channels (CIB)."""

    def __init__(self, layers: Layers, channels: int, *, shortcut: bool, large_kernel: bool) -> None:
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            layers.depthwise(channels, 3),
            layers.conv(channels, wide),
            LargeKernelDW(layers, wide) if large_kernel else layers.depthwise(wide, 3),
            layers.conv(wide, channels),
            layers.depthwise(channels, 3),
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Transform the feature map, (N, C, H, W) -> (N, C, H, W)."""
        y = self.layers(x)
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """A chain of blocks on one half of the channels; a 1x1 convolution joins the outputs of all of them.

    `block` builds a block from its number of channels, which is half of the outputs.
    """

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, *, repeats: int, block: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        hidden = outputs // 2
        self.spread = layers.conv(inputs, 2 * hidden)
        self.blocks = nn.ModuleList(block(hidden) for _ in range(repeats))
        self.gather = layers.conv((2 + repeats) * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Transform the feature map, (N, inputs, H, W) -> (N, outputs, H, W)."""
        parts = list(self.spread(x).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.gather(torch.cat(parts, dim=1))


def make_c2f(
    layers: Layers,
    inputs: int,
    outputs: int,
    *,
    repeats: int,
    shortcut: bool,
    compact: bool,
    large_kernel: bool,
) -> C2f:
    """Build a C2f of plain bottlenecks or, if `compact`, of compact inverted blocks (C2fCIB)."""

    def block(channels: int) -> nn.Module:
        if compact:
            return CompactInvertedBlock(layers, channels, shortcut=shortcut, large_kernel=large_kernel)
        return Bottleneck(layers, channels, shortcut=shortcut)

    return C2f(layers, inputs, outputs, repeats=repeats, block=block)


class SCDown(nn.Sequential):
    """Halves the size in two cheap steps: 1x1 for the channels, then depth-wise 3x3 for the size."""

    def __init__(self, layers: Layers, inputs: int, outputs: int) -> None:
        super().__init__(layers.conv(inputs, outputs), layers.depthwise(outputs, 3, 2, act=False))


class SPPF(nn.Module):
    """Max-pooling over growing windows. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, layers: Layers, channels: int, *, kernel: int = 5) -> None:
        super().__init__()
        hidden = channels // 2
        self.narrow = layers.conv(channels, hidden)
        self.pool = nn.MaxPool2d(kernel, 1, kernel // 2)
        self.gather = layers.conv(4 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Pool once, twice and three times, and join the results."""
        parts = [self.narrow(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.gather(torch.cat(parts, dim=1))
