"""torchvision's kernels for the operators that it shares with mmcv, where torchvision imports."""

import functools
import importlib.util

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision
from ibkd_mm.stack.ops.roi_average import Pooling


@functools.cache
def importable() -> bool:
    """Tell whether torchvision and its kernels are there. The first call imports it."""
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        import torchvision.ops  # noqa: F401

        return bool(torch.ops.torchvision.nms and torch.ops.torchvision.roi_align)
    except Exception:  # built for another torch it raises RuntimeError, OSError, AttributeError ...
        return False


def serves(operator: str, tensor: Tensor) -> bool:
    """Tell whether torchvision's `nms` or `roi_align` runs where the tensor is, and pays there."""
    if operator == "roi_align" and tensor.device.type == "cpu":
        return False  # ours takes a half to a seventh of the time there (benchmarks/ops.py)
    key = {"cpu": "CPU", "cuda": "CUDA"}.get(tensor.device.type)
    if key is None or not importable():
        return False
    # A torchvision built without CUDA imports on a GPU machine too.
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{operator}", key))


def nms_in_order(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that are kept of (N, 4) by descending score."""
    # mmcv compares in float32, torchvision in float64: of an IoU of exactly 0.3 they would think differently.
    iou_threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    descending = torch.arange(len(boxes), 0, -1, device=boxes.device, dtype=boxes.dtype)
    return torch.ops.torchvision.nms(boxes, descending, iou_threshold)


def average_forward(input: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Pool features (B, C, H, W) under RoIs (R, 5) into (R, C, *bins)."""
    dtype = compute_dtype(input)
    with full_precision(input):
        return torch.ops.torchvision.roi_align(
            input.detach().to(dtype),
            rois.detach().to(dtype),
            pooling.spatial_scale,
            *pooling.bins,
            pooling.sampling_ratio,
            pooling.aligned,
        )


def average_backward(grad_output: Tensor, rois: Tensor, shape: torch.Size, pooling: Pooling) -> Tensor:
    """Return the gradient of features of `shape` (B, C, H, W), from (R, C, *bins)."""
    dtype = compute_dtype(grad_output)
    with full_precision(grad_output):
        return torch.ops.torchvision._roi_align_backward(
            grad_output.detach().to(dtype),
            rois.detach().to(dtype),
            pooling.spatial_scale,
            *pooling.bins,
            *shape,
            pooling.sampling_ratio,
            pooling.aligned,
        )
