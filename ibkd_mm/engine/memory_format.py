"""The memory format (channels first or last) of weights, feature maps and optimizer states."""

import torch
from torch import nn
from torch.optim import Optimizer

from ibkd_mm.errors import UserError

_FORMATS = {None: torch.contiguous_format, "channels_last": torch.channels_last}


def to_memory_format(model: nn.Module, memory_format: str | None) -> None:
    """Convert the weights of a model in place; its feature maps follow. None is torch's default format."""
    if memory_format not in _FORMATS:
        raise UserError(f"memory_format is 'channels_last' or None, found {memory_format!r}.")
    model.to(memory_format=_FORMATS[memory_format])  # type: ignore[call-overload]


def match_state_to_weights(optimizer: Optimizer) -> None:
    """Convert a loaded optimizer state to its weights' format, which torch's fused steps do not check."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
