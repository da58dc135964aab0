"""Multi-scale deformable attention by `grid_sample`; mmcv itself uses such a form, but only on the CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision


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
    dtype = compute_dtype(value)
    inputs = (t.detach().to(dtype) for t in (value, sampling_locations, attention_weights))
    with full_precision(value):
        return _attend(spatial_shapes, *inputs).to(value.dtype)


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
        output = _attend(spatial_shapes, *inputs)
        gradients = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)


def _attend(spatial_shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
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
