import itertools
import math
import sys

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from torch.autograd import gradcheck

from ibkd_mm.stack.ops import deform_attn
from ibkd_mm.stack.ops.deform_attn import ms_deform_attn_forward

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
mmcv_module = sys.modules["mmcv.ops.multi_scale_deform_attn"]
SHAPES = [(4, 5), (3, 2)]


def plain_deform_attn(value, locations, weights):
    """(B, K, heads, D) sampled at (B, Q, heads, L, P, 2), weighted by (B, Q, heads, L, P) and summed."""
    batch, queries, heads, levels, points, _ = locations.shape
    output = value.new_zeros(batch, queries, heads, value.shape[3])
    maps = value.split([height * width for height, width in SHAPES], dim=1)
    for b, q, h, level, p in itertools.product(*map(range, (batch, queries, heads, levels, points))):
        height, width = SHAPES[level]
        pixels = maps[level][b, :, h].reshape(height, width, -1)
        x, y = locations[b, q, h, level, p, 0] * width - 0.5, locations[b, q, h, level, p, 1] * height - 0.5
        top, left = math.floor(y), math.floor(x)
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - (y - row).abs()) * (1 - (x - column).abs())
                output[b, q, h] = output[b, q, h] + share * weights[b, q, h, level, p] * pixels[row, column]
    return output.flatten(2)


def inputs(dtype=torch.float64, queries=3):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 26, 2, 3, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, queries, 2, 2, 2, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, queries, 2, 2, 2, generator=generator, dtype=torch.float64)
    return [t.to(dtype) for t in (value, locations, weights)]


@pytest.fixture
def attend(portable, monkeypatch):
    """mmcv's autograd function, which it uses on a GPU only, on the portable operators."""
    monkeypatch.setattr(mmcv_module, "ext_module", portable)
    shapes = torch.tensor(SHAPES)
    starts = torch.tensor([0, 20])

    def call(value, locations, weights):
        shape, start = shapes.to(value.device), starts.to(value.device)
        return mmcv_module.MultiScaleDeformableAttnFunction.apply(value, shape, start, locations, weights, 64)

    return call


def test_attention_is_what_the_plain_loop_sums(attend):
    torch.testing.assert_close(attend(*inputs()), plain_deform_attn(*inputs()))


def test_the_gradients_are_those_of_the_plain_loop(attend):
    weights = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for function in (attend, plain_deform_attn):
        leaves = [t.requires_grad_() for t in inputs()]
        gradients.append(torch.autograd.grad((function(*leaves) * weights).sum(), leaves))
    torch.testing.assert_close(*gradients)


def test_gradcheck(attend):
    assert gradcheck(
        attend, [t[:1, : (26 if i == 0 else 1)].requires_grad_() for i, t in enumerate(inputs())]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_only_rounds_the_result(attend, dtype):
    value, locations, weights = inputs(dtype)
    exact = attend(value.float(), locations.float(), weights.float())
    assert torch.equal(attend(value, locations, weights), exact.to(dtype))
    leaf = value.requires_grad_()
    attend(leaf, locations, weights).sum().backward()
    assert leaf.grad.dtype == dtype


def test_autocast_does_not_reach_inside(attend):
    plain = attend(*inputs(torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(*inputs(torch.float32)), plain)


def test_no_queries_give_no_output(attend):
    assert attend(*inputs(queries=0)).shape == (2, 0, 6)


def test_it_agrees_with_the_form_that_mmcv_uses_on_a_cpu():
    value, locations, weights = inputs()
    upstream = mmcv_module.multi_scale_deformable_attn_pytorch.__wrapped__
    own = upstream(value, torch.tensor(SHAPES), locations, weights)
    ours = ms_deform_attn_forward(value, torch.tensor(SHAPES), torch.tensor([0, 20]), locations, weights, 64)
    torch.testing.assert_close(ours, own)


@pytest.mark.parametrize("edge", [-1.0, 0.0, 1.0, 2.0, 1e9])
def test_points_at_the_edges_and_far_outside_are_what_mmcv_makes_of_them(edge):
    value, locations, weights = inputs()
    locations[..., 0] = edge
    locations[:, :2, ..., 1] = edge
    given = value, torch.tensor(SHAPES), locations, weights
    attend = mmcv_module.multi_scale_deformable_attn_pytorch
    torch.testing.assert_close(attend(*given), attend.__wrapped__(*given))


def test_mmcv_gathers_only_without_gradient_on_a_cpu(monkeypatch):
    called = []
    attend = deform_attn._gather_without_gradient(lambda *_: called.append("mmcv's"))
    monkeypatch.setattr(
        deform_attn, "_attend_by_gathering", lambda *_: called.append("ours") or torch.zeros(1)
    )
    value, locations, weights = inputs()
    given = value, torch.tensor(SHAPES), locations, weights
    attend(*given)
    weights.requires_grad_()
    attend(*given)
    with torch.no_grad():
        attend(*given)
    assert called == ["ours", "mmcv's", "ours"]


def test_what_stands_in_mmcv_is_put_there_once():
    before = mmcv_module.multi_scale_deformable_attn_pytorch
    deform_attn.install()
    assert mmcv_module.multi_scale_deformable_attn_pytorch is before
    assert not hasattr(before.__wrapped__, "__wrapped__")


@cuda
def test_the_layer_of_mask2former_gives_on_a_gpu_what_it_gives_on_a_cpu():
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(embed_dims=16, num_heads=2, num_levels=2, num_points=2).eval()
    query, points = torch.randn(26, 1, 16), torch.rand(1, 26, 2, 2)
    outputs = [
        layer.to(device)(
            query.to(device),
            reference_points=points.to(device),
            spatial_shapes=torch.tensor(SHAPES, device=device),
            level_start_index=torch.tensor([0, 20], device=device),
        ).cpu()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
