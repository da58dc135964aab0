"""torchvision's kernels for operators that mmcv has too, if torchvision imports."""

import functools
import importlib.util

import torch
from torch import Tensor

from ibkd_mm.stack.ops.execution import compute_dtype, full_precision
from ibkd_mm.stack.ops.roi_geometry import Pooling


@functools.cache
def is_importable() -> bool:
    """Return whether torchvision and its kernels are available. The first call imports it."""
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        import torchvision.ops  # noqa: F401

        return bool(torch.ops.torchvision.nms and torch.ops.torchvision.roi_align)
    except Exception:  # built for another torch it raises RuntimeError, OSError, AttributeError ...
        return False


def is_preferred(operator: str, tensor: Tensor) -> bool:
    """Return whether torchvision's `nms` or `roi_align` runs on the tensor's device and is faster there."""
    if operator == "roi_align" and tensor.device.type == "cpu":
        return False  # ours takes a half to a seventh of the time (benchmarks/ops.py)
    key = {"cpu": "CPU", "cuda": "CUDA"}.get(tensor.device.type)
    if key is None or not is_importable():
        return False
    # A torchvision without CUDA kernels also imports on a GPU machine.
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{operator}", key))


def nms_sorted(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the kept boxes of (N, 4), sorted by descending score."""
    # mmcv compares in float32, torchvision in float64: they would differ for an IoU of exactly 0.3.
    iou_threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    descending = torch.arange(len(boxes), 0, -1, device=boxes.device, dtype=boxes.dtype)
    return torch.ops.torchvision.nms(boxes, descending, iou_threshold)


def average_forward(input: Tensor, rois: Tensor, pooling: Pooling) -> Tensor:
    """Pool features (B, C, H, W) inside RoIs (R, 5) into (R, C, *bins)."""
    features, boxes = (tensor.detach().to(compute_dtype(input)) for tensor in (input, rois))
    bins, scale, sampling_ratio, aligned = pooling
    with full_precision(input):
        return torch.ops.torchvision.roi_align(features, boxes, scale, *bins, sampling_ratio, aligned)


def average_backward(grad_output: Tensor, rois: Tensor, shape: torch.Size, pooling: Pooling) -> Tensor:
    """Return the gradient of features of `shape` (B, C, H, W) from `grad_output` (R, C, *bins)."""
    gradient, boxes = (tensor.detach().to(compute_dtype(grad_output)) for tensor in (grad_output, rois))
    bins, scale, sampling_ratio, aligned = pooling
    backward = torch.ops.torchvision._roi_align_backward
    with full_precision(grad_output):
        return backward(gradient, boxes, scale, *bins, *shape, sampling_ratio, aligned)
