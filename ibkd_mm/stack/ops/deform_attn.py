"""Multi-scale deformable attention without a compiled operator.

Uses `grid_sample`, as mmcv does on a CPU. On a CPU without gradients it gathers pixels instead, which takes a
fifth of the time on the feature maps of a full-size Mask2Former.
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
    """Let mmcv gather pixels on a CPU if no gradient is needed. Idempotent.

    Its PyTorch version writes every sample of every channel to memory. Can go when it does not.
    """
    module: Any = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    upstream = module.multi_scale_deformable_attn_pytorch
    module.multi_scale_deformable_attn_pytorch = _gather_without_gradient(upstream)


def _gather_without_gradient(upstream: _Attention) -> _Attention:
    if hasattr(upstream, "__wrapped__"):
        return upstream

    @wraps(upstream)
    def attend(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        inputs = (value, locations, weights)
        differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        if differentiable or value.device.type != "cpu":
            return upstream(value, spatial_shapes, locations, weights)
        return _attend(spatial_shapes, *inputs)

    return attend


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the sum of the values at the sampled points, weighted by attention.

    Args:
        value: (B, K, heads, D), K the pixels of all levels, level by level.
        spatial_shapes: (L, 2) int64, height and width of the levels.
        level_start_index: (L,), unused, as the shapes determine it.
        sampling_locations: (B, Q, heads, L, P, 2) as x, y, from 0 to 1 on each level.
        attention_weights: (B, Q, heads, L, P).
        im2col_step: unused, an option of mmcv's kernel.

    Returns:
        (B, Q, heads * D) in the dtype of `value`.
    """
    return _attend(spatial_shapes, value, sampling_locations, attention_weights)


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
        output = _attend_by_sampling(spatial_shapes, *inputs)
        gradients = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)


def _attend(spatial_shapes: Tensor, *inputs: Tensor) -> Tensor:
    value = inputs[0]
    converted = [tensor.detach().to(compute_dtype(value)) for tensor in inputs]
    attend = _attend_by_gathering if value.device.type == "cpu" else _attend_by_sampling
    with full_precision(value):
        return attend(spatial_shapes, *converted).to(value.dtype)


def _attend_by_sampling(spatial_shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
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


def _attend_by_gathering(spatial_shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute one weighted sum per query over the four pixels around each of its points."""
    batch, keys, heads, dim = value.shape
    queries = locations.shape[1]
    columns, rows = (spatial_shapes.cpu()[:, axis, None].int() for axis in (1, 0))  # (L, 1)
    sizes = (columns * rows).squeeze(1)
    starts = (sizes.cumsum(0) - sizes)[:, None].int()
    x, x_weights = _neighbours(locations[..., 0], columns)  # each (B, Q, heads, L, P, 2)
    y, y_weights = _neighbours(locations[..., 1], rows)
    pixels = (y * columns[..., None] + starts[..., None])[..., None] + x[..., None, :]
    pixels += keys * torch.arange(batch, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1, 1)
    rows_of_value = pixels * heads + torch.arange(heads, dtype=torch.int32).view(-1, 1, 1, 1, 1)
    pixel_weights = (y_weights * weights[..., None])[..., None] * x_weights[..., None, :]
    output = F.embedding_bag(
        rows_of_value.flatten(3).flatten(0, 2),
        value.reshape(-1, dim),
        mode="sum",
        per_sample_weights=pixel_weights.flatten(3).flatten(0, 2),
    )
    return output.view(batch, queries, heads * dim)


def _neighbours(coordinates: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two pixels around each coordinate of an axis and their weights, 0 outside the feature map.

    Args:
        coordinates: (..., L, P), from 0 to 1 on each level.
        sizes: (L, 1), number of pixels of each level.

    Returns:
        Two tensors (..., L, P, 2).
    """
    coordinates = coordinates * sizes - 0.5
    first = coordinates.floor()
    fraction = coordinates - first
    pixels = torch.stack([first, first + 1], -1).int()
    sizes = sizes[..., None]
    weights = torch.stack([1 - fraction, fraction], -1) * ((pixels >= 0) & (pixels < sizes))
    return torch.minimum(pixels.clamp(min=0), sizes - 1), weights
