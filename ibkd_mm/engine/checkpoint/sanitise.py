"""Reduce a loaded checkpoint to weights and plain values; drop attributes and configs that could run code."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ibkd_mm.errors import UserError

_CONFIGS = ("config", "cfg")
"""Texts that mmengine executes as configs: the runner the first, inferencers the second."""


def sanitise(loaded: Any) -> Any:
    """Remove the attributes that a file set on dictionaries and tensors, except `_metadata`.

    A pickle may give an OrderedDict its own `get`, or an `__array_interface__`, with which numpy reads any
    address in memory.
    """
    visited, stack = set[int](), [loaded]
    while stack:
        value = stack.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, dict | Tensor):
            attributes = getattr(value, "__dict__", {})
            stack.append(attributes.get("_metadata"))
            for name in [name for name in attributes if name != "_metadata"]:
                del attributes[name]
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list | tuple | set):
            stack.extend(value)
    return loaded


def normalise(loaded: Any, path: Path) -> dict[str, Any]:
    """Return the checkpoint with its weights under `state_dict` and without the text of configs."""
    if not isinstance(loaded, dict):
        raise UserError(f"Expected a dictionary of weights in {path}, found {type(loaded).__name__}.")
    checkpoint = loaded if "state_dict" in loaded else {"state_dict": _require_bare_weights(loaded, path)}
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        kind = type(weights).__name__
        raise UserError(f"Expected weights by name under 'state_dict' in {path}, found {kind}.")
    hub = checkpoint.get("message_hub")
    for part in (checkpoint.get("meta"), *(hub.values() if isinstance(hub, dict) else ())):
        if isinstance(part, dict):
            for key in _CONFIGS:
                part.pop(key, None)
    return checkpoint


def _require_bare_weights(found: dict[str, Any], path: Path) -> dict[str, Any]:
    weights = found.get("model", found)
    if isinstance(weights, dict) and weights and all(isinstance(v, Tensor) for v in weights.values()):
        return weights
    keys = ", ".join(map(str, list(found)[:5]))
    raise UserError(f"Expected weights under 'state_dict' in {path}, found the keys: {keys or 'none'}.")
