"""Half precision for compiled operators on a CPU.

mmcv's CPU kernels take float32 and float64 alone, so that under autocast Mask R-CNN stops at its first NMS.
Can go when they take the others.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from ibkd_mm.stack.ops.extension import OPERATORS

_HALF = (torch.bfloat16, torch.float16)


def serve_half(compiled: ModuleType) -> None:
    """Let the portable operators take what a compiled module's cannot."""
    for name, portable in OPERATORS.items():
        own = getattr(compiled, name, None)
        if own is not None:
            setattr(compiled, name, _choose(own, portable))


def _choose(own: Callable[..., Any], portable: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(portable)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        operator = portable if any(map(_is_half_on_cpu, (*args, *kwargs.values()))) else own
        return operator(*args, **kwargs)

    return chosen


def _is_half_on_cpu(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.dtype in _HALF
