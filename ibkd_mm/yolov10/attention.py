"""Partial self-attention: one half of the channels attends to the whole image."""

import torch
from torch import Tensor, nn

from ibkd_mm.yolov10.layers import Layers

_CHANNELS_PER_HEAD = 64


class Attention(nn.Module):
    """Self-attention of every position to every other. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        self.heads = channels // _CHANNELS_PER_HEAD
        values = channels // self.heads
        keys = values // 2
        self.split = (keys, keys, values)
        self.qkv = layers.conv(channels, self.heads * sum(self.split), act=False)
        self.position = layers.depthwise(channels, 3, act=False)
        self.project = layers.conv(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Average the values by attention; a depth-wise convolution adds the position."""
        batch, channels, height, width = x.shape
        query, key, value = self.qkv(x).view(batch, self.heads, -1, height * width).split(self.split, dim=2)
        # scaled before the product, which would overflow in half precision
        logits = (query * self.split[0] ** -0.5).transpose(-2, -1) @ key
        mixed = value @ logits.softmax(dim=-1).transpose(-2, -1)
        shape = (batch, channels, height, width)
        return self.project(mixed.view(shape) + self.position(value.reshape(shape)))


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
        """Apply attention to the second half, then join both."""
        kept, y = self.spread(x).chunk(2, dim=1)
        y = y + self.attention(y)
        y = y + self.feed_forward(y)
        return self.gather(torch.cat([kept, y], dim=1))
