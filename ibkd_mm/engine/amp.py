"""Mixed precision where there is no GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ibkd_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Automatic mixed precision on a CPU.

    mmengine's `AmpOptimWrapper` asks for an accelerator. On a CPU autocast means bfloat16, with the
    range of float32, so there is no loss to scale. Known fault of torch 2.13: the weight gradient of a
    3x3 convolution over a 1x1 map is partly uninitialised in bfloat16; give such a model larger pictures.
    """

    def __init__(self, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, besides what every wrapper does."""
        with super().optim_context(model), torch.autocast("cpu", dtype=self.dtype):
            yield
