"""Automatic mixed precision: `--amp` on a GPU or a CPU, and the optimizer wrapper for a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ibkd_mm.errors import UserError
from ibkd_mm.registry import OPTIM_WRAPPERS

_AMP, _CPU_AMP = "AmpOptimWrapper", "ibkd_mm.CpuAmpOptimWrapper"
_NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # torch's names for it on x86 and on ARM


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Automatic mixed precision on a CPU; mmengine's `AmpOptimWrapper` requires an accelerator.

    On a CPU autocast computes in bfloat16, which has the range of float32, so no loss is scaled. Known fault
    of torch 2.13: the weight gradient of a 3x3 convolution over a 1x1 feature map is partly uninitialised in
    bfloat16. Use larger images for such a model.

    Args:
        dtype: dtype of the forward pass; 'auto' is bfloat16 where the CPU supports it, else float32.
    """

    def __init__(self, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dtype == "auto":
            # CPUs without it convert to float32 and back; torch's older versions do not know what a CPU has
            capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
            dtype = "bfloat16" if any(map(capabilities.get, _NATIVE_BFLOAT16)) else "float32"
            if dtype == "float32":
                print_log("torch finds no bfloat16 on this CPU: using float32, which is faster.", "current")
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, besides what every wrapper does."""
        enabled = self.dtype is not torch.float32
        with super().optim_context(model), torch.autocast("cpu", dtype=self.dtype, enabled=enabled):
            yield


def enable_amp(config: Config) -> None:
    """Replace the optimizer wrapper by one for mixed precision: mmengine's, or on a CPU this package's."""
    wrapper, wrapper_type = config.optim_wrapper, _wrapper_type(config)
    if wrapper_type not in ("OptimWrapper", _AMP, _CPU_AMP):
        raise UserError(
            f"--amp replaces optim_wrapper.type='OptimWrapper', found '{wrapper_type}'. Leave --amp out."
        )
    on_gpu = torch.cuda.is_available()
    if (wrapper_type == _CPU_AMP) == on_gpu:  # its dtype was chosen for the other device
        wrapper.pop("dtype", None)
    if on_gpu:
        wrapper.type = _AMP
        wrapper.setdefault("loss_scale", "dynamic")
    else:
        wrapper.type = _CPU_AMP
        wrapper.setdefault("dtype", "auto")
        wrapper.pop("loss_scale", None)


def check_amp_device(config: Config) -> None:
    """Raise UserError for mmengine's mixed precision on a machine without an accelerator."""
    if _wrapper_type(config) == _AMP and get_device() in ("cpu", "mps"):
        raise UserError("optim_wrapper.type='AmpOptimWrapper' needs a GPU. On a CPU use --amp instead.")


def _wrapper_type(config: Config) -> str:
    return str(config.optim_wrapper.get("type", "OptimWrapper")).removeprefix("mmengine.")
