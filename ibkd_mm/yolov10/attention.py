"""Partial self-attention: one half of the channels looks at the whole picture."""

import torch
from torch import Tensor, nn

from ibkd_mm.yolov10.layers import Layers

_CHANNELS_A_HEAD = 64


class Attention(nn.Module):
    """Self-attention of every position to every other. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        self.heads = channels // _CHANNELS_A_HEAD
        values = channels // self.heads
        keys = values // 2
        self.split = (keys, keys, values)
        self.qkv = layers.conv(channels, self.heads * sum(self.split), act=False)
        self.position = layers.depthwise(channels, 3, act=False)
        self.project = layers.conv(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the values by how well queries and keys agree; a depth-wise convolution tells where."""
        batch, channels, height, width = x.shape
        query, key, value = self.qkv(x).view(batch, self.heads, -1, height * width).split(self.split, dim=2)
        # scaled before the product, which half precision could not hold otherwise
        agreement = (query * self.split[0] ** -0.5).transpose(-2, -1) @ key
        mixed = value @ agreement.softmax(dim=-1).transpose(-2, -1)
        maps = (batch, channels, height, width)
        return self.project(mixed.view(maps) + self.position(value.reshape(maps)))


class PSA(nn.Module):
    """Attention and a feed-forward net on half of the channels. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.spread = layers.conv(channels, 2 * hidden)
        self.attention = Attention(layers, hidden)
        self.feed_forward = nn.Sequential(
            layers.conv(hidden, 2 * hidden), layers.conv(2 * hidden, hidden, act=False)
        )
        self.gather = layers.conv(2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Let the second half attend, and gather both."""
        kept, y = self.spread(x).chunk(2, dim=1)
        y = y + self.attention(y)
        y = y + self.feed_forward(y)
        return self.gather(torch.cat([kept, y], dim=1))
