"""`compile` in a config: torch.compile of what is worth it."""

from typing import Any

from torch import nn

from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError

_PARTS = ("backbone", "neck")


def compile_network(model: nn.Module, settings: Any) -> None:
    """Compile the backbone and the neck of a detector or, of a distillation, of its student, once.

    mmengine compiles a whole step, with the assignment in it, whose shapes are others for every batch, and
    with the optimizer's hooks, on which torch gives up.

    Args:
        model: wrapped or not; its parameters keep their names.
        settings: of `torch.compile`, or True for none; nothing is done for None and False.
    """
    if settings is None or settings is False:
        return
    if settings is not True and not isinstance(settings, dict):
        raise UserError(f"compile is True or settings of torch.compile, found {settings!r}.")
    whole = unwrap_model(model)
    network = getattr(whole, "architecture", whole)
    parts = [part for name in _PARTS if isinstance(part := getattr(network, name, None), nn.Module)]
    if not parts:
        raise UserError(
            f"compile is for models with a backbone, {type(network).__name__} has none. Leave compile out."
        )
    for part in parts:
        if part._compiled_call_impl is None:
            part.compile(**({} if settings is True else settings))
