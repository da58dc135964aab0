"""Mixed precision on a CPU, and an optimizer constructor that puts equal settings into one group."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ibkd_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

FEW_GROUPS = {"constructor": "ibkd_mm.FewGroupsConstructor"}  # for an `optim_wrapper` without a constructor
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


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FewGroupsConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc]
    """mmengine's constructor with one group, and one line in the log, for all parameters of equal settings.

    With a `paramwise_cfg`, mmengine makes a group for every parameter, and an optimizer steps group by group:
    368 small steps for YOLOv10-N instead of two large ones.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the parameters of a module and its submodules."""
        if kwargs.get("prefix"):  # mmengine calls this method for every submodule
            super().add_params(params, module, **kwargs)
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(max(level, logging.WARNING))
        try:
            super().add_params(params, module, **kwargs)
        finally:
            logger.setLevel(level)
        params[:] = merge_groups(params)
        for group in params:
            settings = _settings(group) or "no other settings"
            logger.info(f"paramwise_cfg: {len(group['params'])} parameters have {settings}")


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge groups of equal settings, in order of first occurrence; a parameter in several is kept once."""
    merged: list[dict[str, Any]] = []
    for group in groups:
        settings = _settings(group)
        target = next((other for other in merged if _settings(other) == settings), None)
        if target is None:
            merged.append(target := {"params": [], **settings})
        known = target["params"]
        known.extend(p for p in group["params"] if not any(p is other for other in known))
    return merged


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}
