"""Automatic mixed precision on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ibkd_mm.registry import OPTIM_WRAPPERS

_NATIVE = ("avx512_bf16", "amx_bf16", "bf16")  # torch's names for it on x86 and on ARM


def has_native_bfloat16() -> bool:
    """Return whether this CPU computes in bfloat16; others convert to float32 and back, which is slower."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
    return any(capabilities.get(name) for name in _NATIVE)


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
        if dtype == "auto" and has_native_bfloat16():
            dtype = "bfloat16"
        elif dtype == "auto":
            dtype = "float32"
            print_log("torch finds no bfloat16 on this CPU: using float32, which is faster.", "current")
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, besides what every wrapper does."""
        enabled = self.dtype is not torch.float32
        with super().optim_context(model), torch.autocast("cpu", dtype=self.dtype, enabled=enabled):
            yield
