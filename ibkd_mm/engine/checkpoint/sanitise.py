"""What of a checkpoint's contents is handed on: weights by name and plain values, nothing that acts."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ibkd_mm.errors import UserError

_CONFIGS = ("config", "cfg")
"""Texts that mmengine executes as configs: resuming the first, inferencers the second."""


def sanitise(loaded: Any) -> Any:
    """Take from dictionaries and tensors the attributes that the file gave them, all but `_metadata`.

    A pickle may give an OrderedDict a `get` of its choice, or an `__array_interface__`, which numpy follows
    to any address in memory.
    """
    seen, waiting = set[int](), [loaded]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict | Tensor):
            attributes = getattr(value, "__dict__", {})
            waiting.append(attributes.get("_metadata"))
            for name in [name for name in attributes if name != "_metadata"]:
                del attributes[name]
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
    return loaded


def normalised(loaded: Any, path: Path) -> dict[str, Any]:
    """Put the weights under `state_dict`, wherever they were, and leave out the text of configs."""
    if not isinstance(loaded, dict):
        raise UserError(f"Expected a dictionary of weights in {path}, found {type(loaded).__name__}.")
    checkpoint = loaded if "state_dict" in loaded else {"state_dict": _bare_weights(loaded, path)}
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        kind = type(weights).__name__
        raise UserError(f"Expected weights by name under 'state_dict' in {path}, found {kind}.")
    hub = checkpoint.get("message_hub")
    for part in (checkpoint.get("meta"), *(hub.values() if isinstance(hub, dict) else ())):
        if isinstance(part, dict):
            for text in _CONFIGS:
                part.pop(text, None)
    return checkpoint


def _bare_weights(found: dict[str, Any], path: Path) -> dict[str, Any]:
    inner = found.get("model", found)
    if isinstance(inner, dict) and inner and all(isinstance(value, Tensor) for value in inner.values()):
        return inner
    keys = ", ".join(map(str, list(found)[:5]))
    raise UserError(f"Expected weights under 'state_dict' in {path}, found the keys: {keys or 'none'}.")
