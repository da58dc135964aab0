"""Portable replacement of the module `mmcv._ext`, with the names and signatures that mmcv uses."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from ibkd_mm.stack.lazy_modules import StandInModule
from ibkd_mm.stack.ops import deform_attn, focal_loss, nms, roi_align, soft_nms

NAME = "mmcv._ext"
_HALF = (torch.bfloat16, torch.float16)


def get_compiler_version() -> str:
    """Return what mmcv's environment report shows as the compiler."""
    return "none (portable operators of ibkd_mm)"


def get_compiling_cuda_version() -> str:
    """Return what mmcv's environment report shows as the CUDA version."""
    return "none (portable operators of ibkd_mm)"


OPERATORS: dict[str, Callable[..., Any]] = {
    "nms": nms.nms,
    "softnms": soft_nms.softnms,
    "roi_align_forward": roi_align.roi_align_forward,
    "roi_align_backward": roi_align.roi_align_backward,
    "ms_deform_attn_forward": deform_attn.ms_deform_attn_forward,
    "ms_deform_attn_backward": deform_attn.ms_deform_attn_backward,
    "sigmoid_focal_loss_forward": focal_loss.sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": focal_loss.sigmoid_focal_loss_backward,
    "get_compiler_version": get_compiler_version,
    "get_compiling_cuda_version": get_compiling_cuda_version,
}


class MissingOperatorError(NotImplementedError):
    """Only the compiled mmcv has the operator that was called."""


class PortableExtension(StandInModule):
    """The portable operators, and a failing function for every other name, as mmcv requires all at import."""

    def __init__(self) -> None:
        super().__init__(NAME, is_package=False)
        vars(self).update(OPERATORS)

    def _make_attribute(self, name: str) -> Callable[..., Any]:
        def missing(*_: Any, **__: Any) -> None:
            raise MissingOperatorError(
                f"mmcv's operator `{name}` is not among the portable ones ({', '.join(sorted(OPERATORS))}). "
                "`make ops` builds the compiled operators, which include it and are then used automatically."
            )

        missing.__name__ = missing.__qualname__ = name
        return missing


def support_half_precision(extension: ModuleType) -> None:
    """Let the portable operators run if a compiled one gets a half-precision tensor on the CPU.

    mmcv's CPU kernels accept only float32 and float64: under autocast Mask R-CNN fails at its first NMS. Can
    go when they accept half precision.
    """
    for name, portable in OPERATORS.items():
        if hasattr(extension, name):
            setattr(extension, name, _with_fallback(getattr(extension, name), portable))


def _with_fallback(compiled: Callable[..., Any], portable: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(portable)
    def operator(*args: Any, **kwargs: Any) -> Any:
        run = portable if any(map(_is_half_on_cpu, (*args, *kwargs.values()))) else compiled
        return run(*args, **kwargs)

    return operator


def _is_half_on_cpu(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.dtype in _HALF
