"""Mixed precision where there is no GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ibkd_mm.registry import OPTIM_WRAPPERS

_NATIVE = ("avx512_bf16", "amx_bf16", "bf16")  # names of one ability on x86 and on ARM


def has_native_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16, rather than by turns to float32 that make it slower."""
    abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not tell
    return any(abilities.get(name) for name in _NATIVE)


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Automatic mixed precision on a CPU.

    mmengine's `AmpOptimWrapper` asks for an accelerator. On a CPU autocast means bfloat16, with the
    range of float32, so there is no loss to scale. Known fault of torch 2.13: the weight gradient of a
    3x3 convolution over a 1x1 map is partly uninitialised in bfloat16; give such a model larger pictures.

    Args:
        dtype: what the forward pass computes in; 'auto' is bfloat16 on a CPU made for it, else float32.
    """

    def __init__(self, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dtype == "auto" and has_native_bfloat16():
            dtype = "bfloat16"
        elif dtype == "auto":
            dtype = "float32"
            print_log(
                "torch knows no bfloat16 of this CPU: computing in float32, which is faster.", "current"
            )
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, besides what every wrapper does."""
        enabled = self.dtype is not torch.float32
        with super().optim_context(model), torch.autocast("cpu", dtype=self.dtype, enabled=enabled):
            yield
