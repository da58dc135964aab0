"""Blocks compute what they are defined to, beyond having the right number of parameters."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.yolov10.attention import PSA, Attention
from ibkd_mm.yolov10.blocks import SPPF, Bottleneck, C2f, CompactInvertedBlock, LargeKernelDW, SCDown
from ibkd_mm.yolov10.layers import Layers, scaled_channels, scaled_repeats

LAYERS = Layers(norm_cfg={"type": "BN", "eps": 1e-3, "momentum": 0.03}, act_cfg={"type": "SiLU"})


@pytest.fixture(autouse=True)
def _no_gradients() -> None:
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("nominal", "widen", "most", "channels"),
    [(1024, 0.25, 1024, 256), (1024, 0.75, 768, 576), (1024, 1.25, 512, 640), (64, 0.3, 1024, 24)],
)
def test_channels_are_capped_then_scaled_then_rounded_up(
    nominal: int, widen: float, most: int, channels: int
) -> None:
    assert scaled_channels(nominal, widen, most) == channels


def test_repeats_are_rounded_but_never_none() -> None:
    assert [scaled_repeats(n, depth) for depth in (0.33, 0.67, 1.0) for n in (3, 6)] == [1, 2, 2, 4, 3, 6]
    assert scaled_repeats(1, 0.1) == 1


def test_a_layer_is_convolution_norm_and_silu() -> None:
    layer, x = LAYERS.conv(3, 8, 3, 2).eval(), torch.randn(2, 3, 7, 8)
    nn.init.uniform_(layer.norm.running_var, 0.5, 2)
    assert (layer.norm.eps, layer.norm.momentum) == (1e-3, 0.03)
    y = (
        F.conv2d(x, layer.conv.weight, stride=2, padding=1)
        / (layer.norm.running_var + 1e-3).sqrt()[:, None, None]
    )
    assert torch.allclose(layer(x), y * y.sigmoid(), atol=1e-6)


def test_attention_by_its_definition() -> None:
    """Head by head, position by position: values weighted by the softmax of query times key."""
    attention, x = Attention(LAYERS, 144).eval(), torch.randn(1, 144, 3, 4)
    assert (attention.heads, attention.split) == (2, (36, 36, 72))
    mixed, values = torch.zeros(144, 12), torch.zeros(144, 12)
    for head, maps in enumerate(attention.qkv(x)[0].flatten(1).chunk(2)):
        query, key, value = maps[:36], maps[36:72], maps[72:]
        rows = slice(72 * head, 72 * head + 72)
        values[rows] = value
        for place in range(12):
            weight = torch.softmax(torch.stack([query[:, place] @ key[:, i] for i in range(12)]) / 6, dim=0)
            mixed[rows, place] = value @ weight
    expected = attention.project(mixed.view_as(x) + attention.position(values.view_as(x)))
    assert torch.allclose(attention(x), expected, atol=1e-6)


def seen_by(layer: nn.Module, run: nn.Module, x: Tensor) -> Tensor:
    """What a layer is given while another runs."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    run(x)
    handle.remove()
    return seen[0]


def test_half_of_the_channels_pass_by_the_attention() -> None:
    psa, x = PSA(LAYERS, 256).eval(), torch.randn(1, 256, 4, 4)
    gathered = seen_by(psa.gather, psa, x)
    kept, attending = psa.spread(x).chunk(2, dim=1)
    assert torch.equal(gathered[:, :128], kept)
    attending = attending + psa.attention(attending)
    attending = attending + psa.feed_forward(attending)
    assert torch.allclose(gathered[:, 128:], attending, atol=1e-6)


def test_pooling_sees_5_9_and_13_cells() -> None:
    sppf, x = SPPF(LAYERS, 8).eval(), torch.randn(1, 8, 15, 15)
    narrow = sppf.narrow(x)
    expected = [narrow, *(F.max_pool2d(narrow, k, 1, k // 2) for k in (5, 9, 13))]
    assert torch.equal(seen_by(sppf.gather, sppf, x), torch.cat(expected, dim=1))


def test_c2f_gathers_both_halves_and_what_each_block_makes_of_the_second() -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    c2f = C2f(LAYERS, 6, 8, repeats=2, block=lambda channels: Add()).eval()
    x = torch.randn(1, 6, 4, 4)
    first, second = c2f.spread(x).chunk(2, dim=1)
    expected = torch.cat([first, second, second + 1, second + 1 + 1], dim=1)
    assert torch.equal(seen_by(c2f.gather, c2f, x), expected)


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("kind", ["plain", "compact", "large"])
def test_a_shortcut_adds_the_input(kind: str, shortcut: bool) -> None:
    if kind == "plain":
        block: nn.Module = Bottleneck(LAYERS, 8, shortcut=shortcut)
        last = block.conv2
    else:
        block = CompactInvertedBlock(LAYERS, 8, shortcut=shortcut, large_kernel=kind == "large")
        last = block.layers[-1]
    x = torch.randn(1, 8, 5, 5)
    assert block.eval()(x).shape == x.shape
    nn.init.zeros_(last.norm.weight)
    assert torch.equal(block(x), x if shortcut else torch.zeros_like(x))


@pytest.mark.parametrize("size", [(8, 12), (7, 5)])
def test_down_sampling_halves_and_ends_without_activation(size: tuple[int, int]) -> None:
    down = SCDown(LAYERS, 4, 6).eval()
    y = down(torch.randn(1, 4, *size))
    assert y.shape == (1, 6, (size[0] + 1) // 2, (size[1] + 1) // 2)
    assert y.min() < -0.28  # SiLU never gives less


def test_parallel_kernels_merge_into_the_large_one() -> None:
    layer, x = LargeKernelDW(LAYERS, 4).eval(), torch.randn(1, 4, 9, 9)
    before = layer(x)
    for part in (layer.large, layer.small):
        part.conv.bias = nn.Parameter(torch.zeros(4))
        part.conv.weight /= (1 + 1e-3) ** 0.5
        part.bn = nn.Identity()
    kernel = layer.large.conv.weight.clone()
    kernel[:, :, 2:5, 2:5] += layer.small.conv.weight
    layer.fuse()
    assert torch.allclose(layer.large.conv.weight, kernel)
    assert torch.allclose(layer(x), before, atol=1e-6)
    layer.fuse()
    assert torch.allclose(layer.large.conv.weight, kernel)  # once is enough
