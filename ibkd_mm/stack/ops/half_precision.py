"""Half precision for compiled operators on a CPU.

mmcv's CPU kernels accept only float32 and float64: under autocast Mask R-CNN fails at its first NMS. Can go
when they accept half precision.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from ibkd_mm.stack.ops.extension import OPERATORS

_HALF = (torch.bfloat16, torch.float16)


def support_half_precision(extension: ModuleType) -> None:
    """Let the portable operators run if a compiled one gets a half-precision tensor on the CPU."""
    for name, portable in OPERATORS.items():
        compiled = getattr(extension, name, None)
        if compiled is not None:
            setattr(extension, name, _with_fallback(compiled, portable))


def _with_fallback(compiled: Callable[..., Any], portable: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(portable)
    def operator(*args: Any, **kwargs: Any) -> Any:
        run = portable if any(map(_is_half_on_cpu, (*args, *kwargs.values()))) else compiled
        return run(*args, **kwargs)

    return operator


def _is_half_on_cpu(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.dtype in _HALF
