"""How maps lie in memory."""

import torch
from torch import nn
from torch.optim import Optimizer

from ibkd_mm.errors import UserError

_LAYOUTS = {None: torch.contiguous_format, "channels_last": torch.channels_last}


def to_memory_format(model: nn.Module, layout: str | None) -> None:
    """Lay the weights of a model out in place, as a config's `memory_format` says: its maps then follow."""
    if layout not in _LAYOUTS:
        raise UserError(f"memory_format is 'channels_last' or None, found {layout!r}.")
    model.to(memory_format=_LAYOUTS[layout])  # type: ignore[call-overload]


def match_state_to_weights(optimizer: Optimizer) -> None:
    """Lay what an optimizer keeps of each weight out as that weight.

    A loaded state lies as it was saved, and torch's fused steps go through memory without looking how.
    """
    for weight, state in optimizer.state.items():
        for name, kept in state.items():
            if isinstance(kept, torch.Tensor) and kept.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=kept.dtype).copy_(kept)
