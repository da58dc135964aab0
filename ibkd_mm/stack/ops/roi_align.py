"""RoIAlign as mmcv calls it: results go into tensors that the caller made."""

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
    """Pool features under RoIs into `output`.

    Args:
        input: (B, C, H, W).
        rois: (R, 5) as image index, x1, y1, x2, y2.
        output: (R, C, aligned_height, aligned_width), overwritten.
        argmax_y: like `output`; in max mode overwritten with the y of each maximum, else unused.
        argmax_x: the same for x.
        aligned_height: bins from top to bottom.
        aligned_width: bins from left to right.
        spatial_scale: size of the features relative to that of the RoIs.
        sampling_ratio: points along a side of a bin; 0 for as many as pixels, rounded up.
        pool_mode: 0 for the maximum of a bin's points, 1 for their average.
        aligned: whether pixel centres lie at halves; without it RoIs are also at least one pixel large.
    """
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == _MAX:
        results = max_forward(input, rois, pooling)
        for target, result in zip((output, argmax_y, argmax_x), results, strict=True):
            target.copy_(result)
    else:
        kernels = torchvision_kernels if torchvision_kernels.serves("roi_align", input) else roi_average
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
    """Add the gradient of the features to `grad_input` (B, C, H, W); the rest as in the forward."""
    pooling = Pooling((aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    if pool_mode == _MAX:
        grad_input.add_(max_backward(grad_output, rois, argmax_y, argmax_x, grad_input.shape))
    else:
        kernels = torchvision_kernels if torchvision_kernels.serves("roi_align", grad_output) else roi_average
        grad_input.add_(kernels.average_backward(grad_output, rois, grad_input.shape, pooling))
