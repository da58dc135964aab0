"""RoIAlign with mmcv's signature, which writes into tensors of the caller."""

from torch import Tensor

from ibkd_mm.stack.ops import roi_average, torchvision_kernels
from ibkd_mm.stack.ops.roi_average import Pooling
from ibkd_mm.stack.ops.roi_max import max_backward, max_forward

_MAX = 0


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool the features inside RoIs into `output`.

    Args:
        input: (B, C, H, W).
        rois: (R, 5) as image index, x1, y1, x2, y2.
        output: (R, C, aligned_height, aligned_width), overwritten.
        argmax_y: shape of `output`; overwritten with the y of each maximum in max mode, else unused.
        argmax_x: as `argmax_y`, for x.
        aligned_height: number of vertical bins.
        aligned_width: number of horizontal bins.
        spatial_scale: scale from RoI coordinates to feature pixels.
        sampling_ratio: points per bin and axis; 0 for one per pixel, rounded up.
        pool_mode: 0 for the maximum of the points in a bin, 1 for their average.
        aligned: whether pixel centres are at half integers; if not, RoIs are at least one pixel large.
    """
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == _MAX:
        results = max_forward(input, rois, pooling)
        for target, result in zip((output, argmax_y, argmax_x), results, strict=True):
            target.copy_(result)
    else:
        kernels = torchvision_kernels if torchvision_kernels.is_preferred("roi_align", input) else roi_average
        output.copy_(kernels.average_forward(input, rois, pooling))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of the features to `grad_input` (B, C, H, W); arguments as in the forward pass."""
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == _MAX:
        grad_input.add_(max_backward(grad_output, rois, argmax_y, argmax_x, grad_input.shape))
    else:
        kernels = (
            torchvision_kernels if torchvision_kernels.is_preferred("roi_align", grad_output) else roi_average
        )
        grad_input.add_(kernels.average_backward(grad_output, rois, grad_input.shape, pooling))
