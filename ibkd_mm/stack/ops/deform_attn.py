"""Multi-scale deformable attention without a compiled operator.

By `grid_sample`, as mmcv itself does on a CPU; there, where no gradient is asked for, by gathering pixels,
which on maps of a full-size Mask2Former takes a fifth of the time.
"""

import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision

_Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def install() -> None:
    """Let mmcv gather on a CPU, where no gradient is asked for. Idempotent.

    Its own form writes every sample of every channel to memory and reads it again. Can go when it does not.
    """
    upstream: Any = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    upstream.multi_scale_deformable_attn_pytorch = _or_gathered(upstream.multi_scale_deformable_attn_pytorch)


def _or_gathered(sampled: _Attention) -> _Attention:
    if hasattr(sampled, "__wrapped__"):
        return sampled

    @wraps(sampled)
    def attend(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        inputs = (value, locations, weights)
        differentiable = torch.is_grad_enabled() and any(each.requires_grad for each in inputs)
        if differentiable or value.device.type != "cpu":
            return sampled(value, spatial_shapes, locations, weights)
        return _computed(spatial_shapes, *inputs)

    return attend


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum the value maps over the sampled points, by the attention weights.

    Args:
        value: (B, K, heads, D), the K keys being the levels' pixels one level after the other.
        spatial_shapes: (L, 2) int64, height and width of the levels.
        level_start_index: (L,), unused: it follows from the shapes.
        sampling_locations: (B, Q, heads, L, P, 2) as x, y; 0 to 1 spans a level.
        attention_weights: (B, Q, heads, L, P).
        im2col_step: unused, it tunes mmcv's own kernel.

    Returns:
        (B, Q, heads * D) in the dtype of `value`.
    """
    return _computed(spatial_shapes, value, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of value, locations and weights into the three `grad_*` tensors."""
    dtype = compute_dtype(value)
    inputs = [t.detach().to(dtype).requires_grad_() for t in (value, sampling_locations, attention_weights)]
    with full_precision(value), torch.enable_grad():
        output = _sampled(spatial_shapes, *inputs)
        gradients = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)


def _computed(spatial_shapes: Tensor, *given: Tensor) -> Tensor:
    dtype = compute_dtype(given[0])
    inputs = [each.detach().to(dtype) for each in given]
    attend = _gathered if given[0].device.type == "cpu" else _sampled
    with full_precision(given[0]):
        return attend(spatial_shapes, *inputs).to(given[0].dtype)


def _sampled(spatial_shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    sizes = spatial_shapes.tolist()
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in sizes], dim=2)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B * heads, Q, L, P, 2)
    weights = weights.transpose(1, 2).flatten(0, 1)  # (B * heads, Q, L, P)
    output = value.new_zeros(batch * heads, dim, queries)
    for level, (height, width) in enumerate(sizes):
        pixels = maps[level].reshape(batch * heads, dim, height, width)
        samples = F.grid_sample(pixels, grids[:, :, level], padding_mode="zeros", align_corners=False)
        output = output + (samples * weights[:, None, :, level]).sum(-1)
    return output.view(batch, heads * dim, queries).transpose(1, 2).contiguous()


def _gathered(spatial_shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Add up the four pixels around each point, as they lie in memory, in one weighted sum for each query."""
    batch, keys, heads, dim = value.shape
    queries = locations.shape[1]
    columns, rows = (spatial_shapes.cpu()[:, axis, None].int() for axis in (1, 0))  # (L, 1)
    sizes = (columns * rows).squeeze(1)
    starts = (sizes.cumsum(0) - sizes)[:, None].int()
    x, beside = _around(locations[..., 0], columns)  # each (B, Q, heads, L, P, 2)
    y, below = _around(locations[..., 1], rows)
    pixels = (y * columns[..., None] + starts[..., None])[..., None] + x[..., None, :]
    pixels += keys * torch.arange(batch, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1, 1)
    rows_of_value = pixels * heads + torch.arange(heads, dtype=torch.int32).view(-1, 1, 1, 1, 1)
    shares = (below * weights[..., None])[..., None] * beside[..., None, :]
    output = F.embedding_bag(
        rows_of_value.flatten(3).flatten(0, 2),
        value.reshape(-1, dim),
        mode="sum",
        per_sample_weights=shares.flatten(3).flatten(0, 2),
    )
    return output.view(batch, queries, heads * dim)


def _around(places: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Give the two pixels around each place along an axis, and the share of each, 0 outside of the map.

    Args:
        places: (..., L, P), 0 to 1 spanning a level.
        sizes: (L, 1), pixels of the levels.

    Returns:
        Two of (..., L, P, 2).
    """
    places = places * sizes - 0.5
    first = places.floor()
    after = places - first
    pixels = torch.stack([first, first + 1], -1).int()
    sizes = sizes[..., None]
    shares = torch.stack([1 - after, after], -1) * ((pixels >= 0) & (pixels < sizes))
    return torch.minimum(pixels.clamp(min=0), sizes - 1), shares
