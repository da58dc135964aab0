"""Set up mixed precision and learning rate scaling in a config."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device

from ibkd_mm.errors import UserError

_AMP = "AmpOptimWrapper"
_CPU_AMP = "ibkd_mm.CpuAmpOptimWrapper"
_SUPPORTED = ("OptimWrapper", _AMP, _CPU_AMP)


def enable_amp(config: Config) -> None:
    """Replace the optimizer wrapper by one for mixed precision: mmengine's, or on a CPU this package's."""
    wrapper, wrapper_type = config.optim_wrapper, _wrapper_type(config)
    if wrapper_type not in _SUPPORTED:
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
        raise UserError(
            "optim_wrapper.type='AmpOptimWrapper' needs a GPU. On a CPU use --amp, which replaces it."
        )


def enable_lr_scaling(config: Config) -> None:
    """Scale the learning rate with the batch size, from the batch size that the config states."""
    if not config.get("auto_scale_lr", {}).get("base_batch_size"):
        raise UserError(
            "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config: the batch size, over "
            "all GPUs, that its learning rate was chosen for. The config has none."
        )
    config.auto_scale_lr.enable = True


def _wrapper_type(config: Config) -> Any:
    return str(config.optim_wrapper.get("type", "OptimWrapper")).removeprefix("mmengine.")
