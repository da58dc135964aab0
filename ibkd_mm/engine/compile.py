"""The config key `compile`: torch.compile for the backbone and the neck."""

from typing import Any

from torch import nn

from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.stack.internals import is_compiled


def compile_network(model: nn.Module, settings: Any) -> None:
    """Compile the backbone and the neck of a detector, or of the student in a distillation, once.

    mmengine compiles a whole step. That includes label assignment, whose shapes change with every batch, and
    the optimizer's hooks, which torch cannot trace.

    Args:
        model: the model, wrapped or not; its parameters keep their names.
        settings: arguments of `torch.compile`, or True for its defaults; None and False do nothing.
    """
    if settings is None or settings is False:
        return
    if settings is not True and not isinstance(settings, dict):
        raise UserError(f"compile is True or settings of torch.compile, found {settings!r}.")
    model = unwrap_model(model)
    network = getattr(model, "architecture", model)
    parts = [getattr(network, name, None) for name in ("backbone", "neck")]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    if not modules:
        raise UserError(
            f"compile is for models with a backbone, {type(network).__name__} has none. Remove compile."
        )
    for module in modules:
        if not is_compiled(module):
            module.compile(**({} if settings is True else settings))
