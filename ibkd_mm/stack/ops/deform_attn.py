"""Multi-scale deformable attention without a compiled operator.

Uses `grid_sample`, as mmcv does on a CPU. On a CPU without gradients it gathers pixels instead, which takes a
fifth of the time on the feature maps of a full-size Mask2Former.
"""

import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision


def install() -> None:
    """Let mmcv gather pixels on a CPU if no gradient is needed. Idempotent.

    Its PyTorch version writes every sample of every channel to memory. Can go when it does not.
    """
    module: Any = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    attend = module.multi_scale_deformable_attn_pytorch
    module.multi_scale_deformable_attn_pytorch = _gather_without_gradient(attend)


def _gather_without_gradient(upstream: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if hasattr(upstream, "__wrapped__"):
        return upstream

    @wraps(upstream)
    def attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        inputs = (value, locations, weights)
        differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        if differentiable or value.device.type != "cpu":
            return upstream(value, shapes, locations, weights)
        return _attend(shapes, *inputs)

    return attend


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, level_starts: Tensor, locations: Tensor, weights: Tensor, im2col_step: int
) -> Tensor:
    """Return the sum (B, Q, heads * D) of the values at the sampled points, weighted by attention.

    `value` (B, K, heads, D) has the pixels of L levels, level by level; `shapes` (L, 2) is their height and
    width, `locations` (B, Q, heads, L, P, 2) are x and y from 0 to 1, `weights` is (B, Q, heads, L, P).
    """
    return _attend(shapes, value, locations, weights)


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    level_starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of value, locations and weights into the three `grad_*` tensors."""
    dtype = compute_dtype(value)
    inputs = [t.detach().to(dtype).requires_grad_() for t in (value, locations, weights)]
    with full_precision(value), torch.enable_grad():
        output = _attend_by_sampling(shapes, *inputs)
        gradients = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)


def _attend(shapes: Tensor, *inputs: Tensor) -> Tensor:
    value = inputs[0]
    converted = [tensor.detach().to(compute_dtype(value)) for tensor in inputs]
    attend = _attend_by_gathering if value.device.type == "cpu" else _attend_by_sampling
    with full_precision(value):
        return attend(shapes, *converted).to(value.dtype)


def _attend_by_sampling(shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    sizes = shapes.tolist()
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in sizes], dim=2)
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (B * heads, Q, L, P, 2)
    weights = weights.transpose(1, 2).flatten(0, 1)  # (B * heads, Q, L, P)
    output = value.new_zeros(batch * heads, dim, queries)
    for level, (height, width) in enumerate(sizes):
        pixels = maps[level].reshape(batch * heads, dim, height, width)
        samples = F.grid_sample(pixels, grids[:, :, level], padding_mode="zeros", align_corners=False)
        output = output + (samples * weights[:, None, :, level]).sum(-1)
    return output.view(batch, heads * dim, queries).transpose(1, 2).contiguous()


def _attend_by_gathering(shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute one weighted sum per query over the four pixels around each of its points."""
    batch, keys, heads, dim = value.shape
    queries = locations.shape[1]
    columns, rows = (shapes.cpu()[:, axis, None].int() for axis in (1, 0))  # (L, 1)
    sizes = (columns * rows).squeeze(1)
    starts = (sizes.cumsum(0) - sizes)[:, None].int()
    x, x_weights = _neighbours(locations[..., 0], columns)  # each (B, Q, heads, L, P, 2)
    y, y_weights = _neighbours(locations[..., 1], rows)
    pixels = (y * columns[..., None] + starts[..., None])[..., None] + x[..., None, :]
    pixels += keys * torch.arange(batch, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1, 1)
    rows_of_value = pixels * heads + torch.arange(heads, dtype=torch.int32).view(-1, 1, 1, 1, 1)
    pixel_weights = (y_weights * weights[..., None])[..., None] * x_weights[..., None, :]
    bags, bag_weights = (t.flatten(3).flatten(0, 2) for t in (rows_of_value, pixel_weights))
    output = F.embedding_bag(bags, value.reshape(-1, dim), mode="sum", per_sample_weights=bag_weights)
    return output.view(batch, queries, heads * dim)


def _neighbours(coordinates: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two pixels around coordinates (..., L, P) on axes of sizes (L, 1); weights, 0 outside."""
    coordinates = coordinates * sizes - 0.5
    first = coordinates.floor()
    fraction = coordinates - first
    pixels = torch.stack([first, first + 1], -1).int()
    sizes = sizes[..., None]
    weights = torch.stack([1 - fraction, fraction], -1) * ((pixels >= 0) & (pixels < sizes))
    return torch.minimum(pixels.clamp(min=0), sizes - 1), weights
