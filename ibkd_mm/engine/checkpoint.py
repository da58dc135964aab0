"""The one loader of every checkpoint: weights, never programs.

mmengine keeps a table of loaders by prefix. This one takes every entry of it, so `load_from`, `resume`,
`init_cfg=dict(type='Pretrained')` and inferencers all come through here. Upstream's own loader repeats a
refused load with `weights_only=False`, which runs whatever the file says; this one has no second try.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file

from ibkd_mm.engine.safe_globals import SAFE_GLOBALS
from ibkd_mm.engine.sources import MMCLS, PREFIXES, locate
from ibkd_mm.errors import UserError

MapLocation = str | torch.device | Callable[..., Any] | None

_FIRST_BYTES = {
    b"": "is empty",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"<": "is a web page, most likely the error page of a failed download",
}


def load_weights(reference: str | Path, map_location: MapLocation = "cpu") -> dict[str, Any]:
    """Read a checkpoint from a path, URL or `ibkd_mm::NAME`; its weights stand under `state_dict`.

    Raises UserError for a file that is missing, damaged, of another kind, or that would run code when read.
    """
    path = locate(str(reference))
    loaded = (
        _read_safetensors(path, map_location)
        if path.suffix == ".safetensors"
        else _read_torch(path, map_location)
    )
    checkpoint = _normalised(loaded, path)
    if str(reference).startswith(MMCLS):
        checkpoint["state_dict"] = _backbone_only(checkpoint["state_dict"])
    return checkpoint


@CheckpointLoader.register_scheme(prefixes=list(PREFIXES), force=True)
def load_from_weights_only(filename: str, map_location: MapLocation = None) -> dict[str, Any]:
    """Stand in mmengine's table of loaders, for every prefix."""
    return load_weights(filename, map_location)


def _read_safetensors(path: Path, map_location: MapLocation) -> dict[str, Any]:
    device = map_location if isinstance(map_location, str | torch.device) else "cpu"
    try:
        return {"state_dict": OrderedDict(load_file(path, device=str(device)))}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} {_looks_like(path) or 'is not a whole safetensors file'} ({error})."
        ) from error


def _read_torch(path: Path, map_location: MapLocation) -> Any:
    foreign = _looks_like(path)
    if foreign:
        raise UserError(f"Expected a checkpoint, but {path} {foreign}.")
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, error)) from error
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        raise UserError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes; {_first_line(error)}). "
            "Copy or download it again, or use an earlier checkpoint."
        ) from error


def _looks_like(path: Path) -> str | None:
    """Say what a file is that is certainly no checkpoint; None where it may be one."""
    with path.open("rb") as file:
        head = file.read(64)
    for start, what in _FIRST_BYTES.items():
        if (start and head.startswith(start)) or head == start:
            return what
    if path.suffix == ".safetensors" or head.startswith((b"PK\x03\x04", b"\x80")):
        return None
    return f"is neither a zip archive nor a pickle (it begins with {head[:12]!r})"


def _refusal(path: Path, error: Exception) -> str:
    # torch wraps the reason in advice to load without protection.
    reason = str(error.__context__ or error).strip().partition("\n")[0]
    asked = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(r"(?:but got|function) (.+)", reason)
    if asked is None:
        return f"{path} is damaged or no checkpoint ({reason})."
    return (
        f"{path} is refused: it asks for `{asked.group(1)}`, and reading it could run code. Checkpoints hold "
        "tensors and plain values. If you trust whoever made it, save its state_dict anew where it was made."
    )


def _normalised(loaded: Any, path: Path) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise UserError(f"Expected a dictionary of weights in {path}, found {type(loaded).__name__}.")
    if "state_dict" not in loaded:
        inner = loaded.get("model", loaded)
        if (
            not isinstance(inner, dict)
            or not inner
            or not all(isinstance(v, torch.Tensor) for v in inner.values())
        ):
            keys = ", ".join(map(str, list(loaded)[:5]))
            raise UserError(
                f"Expected weights under 'state_dict' in {path}, found the keys: {keys or 'none'}."
            )
        loaded = {"state_dict": inner}
    if isinstance(loaded.get("meta"), dict):
        loaded["meta"].pop("config", None)  # mmengine's resume would execute this text as a config
    return loaded


def _backbone_only(weights: dict[str, Any]) -> dict[str, Any]:
    return OrderedDict(
        (k.removeprefix("backbone."), v) for k, v in weights.items() if k.startswith("backbone.")
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
