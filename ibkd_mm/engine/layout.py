"""How maps lie in memory."""

import torch
from torch import nn

from ibkd_mm.errors import UserError

_LAYOUTS = {None: torch.contiguous_format, "channels_last": torch.channels_last}


def lay_out(model: nn.Module, layout: str | None) -> None:
    """Lay the weights of a model out in place, as a config's `memory_format` says: its maps then follow."""
    if layout not in _LAYOUTS:
        raise UserError(f"memory_format is 'channels_last' or None, found {layout!r}.")
    model.to(memory_format=_LAYOUTS[layout])  # type: ignore[call-overload]
