"""The one loader of all checkpoints: it reads weights, and runs code only from files that the user trusts.

It replaces all loaders in mmengine's table, so `load_from`, `resume`, `init_cfg=dict(type='Pretrained')` and
inferencers use it. mmengine's own repeats a refused load with `weights_only=False`, which runs code.
"""

import json
import logging
import os
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import apply_to
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ibkd_mm.engine.checkpoint.safe_globals import SAFE_GLOBALS, sanitise
from ibkd_mm.engine.checkpoint.sources import MMCLS, PREFIXES, locate
from ibkd_mm.errors import UserError
from ibkd_mm.stack.internals import copy_state_dict_metadata

MapLocation = str | torch.device | Callable[..., Any] | None

# Trusted files, separated as in PATH; an environment variable reaches every process of a run.
TRUST = "IBKD_TRUST_CHECKPOINT"
_CLASSES = "ibkd_mm.classes"
_FIRST_BYTES = {
    b"": "is empty",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"<": "is a web page, most likely the error page of a failed download",
}
_INSTRUCTIONS = {instruction.code: instruction.name for instruction in pickletools.opcodes}

_preloaded: dict[tuple[Any, ...], dict[str, Any]] = {}  # at most one, on the CPU, by `_file_state`


def load_weights(reference: str | Path, map_location: MapLocation = "cpu") -> dict[str, Any]:
    """Read a checkpoint from a path, URL or `ibkd_mm::NAME`; its weights are under `state_dict`."""
    path = locate(str(reference))
    checkpoint = _preloaded.pop(_file_state(path), None)
    if checkpoint is None or not isinstance(map_location, str | torch.device):
        checkpoint = _read(path, map_location)
    elif torch.device(map_location).type != "cpu":
        moved = apply_to(checkpoint, torch.is_tensor, lambda tensor: tensor.to(map_location))
        copy_state_dict_metadata(checkpoint["state_dict"], moved["state_dict"])
        checkpoint = moved
    if str(reference).startswith(MMCLS):
        weights = checkpoint["state_dict"].items()
        backbone = ((k.removeprefix("backbone."), v) for k, v in weights if k.startswith("backbone."))
        checkpoint["state_dict"] = OrderedDict(backbone)
    return checkpoint


def preload_weights(path: Path) -> None:
    """Read a checkpoint as `load_weights` does, and keep it for the next load of this unchanged file."""
    state = _file_state(path)
    _preloaded.clear()
    _preloaded[state] = _read(path, "cpu")


@CheckpointLoader.register_scheme(prefixes=list(PREFIXES), force=True)
def load_from_weights_only(filename: str, map_location: MapLocation = None) -> dict[str, Any]:
    """Load a checkpoint for mmengine, whatever its prefix."""
    return load_weights(filename, map_location)


def _file_state(path: Path) -> tuple[Any, ...]:
    stat = path.stat()
    return path.resolve(), stat.st_size, stat.st_mtime_ns


def _read(path: Path, map_location: MapLocation) -> dict[str, Any]:
    """Read weights under `state_dict`, without the texts that mmengine would execute as configs."""
    loaded = (_read_safetensors if path.suffix == ".safetensors" else read_torch)(path, map_location)
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
            for key in ("config", "cfg"):  # the runner executes the first, inferencers the second
                part.pop(key, None)
    return checkpoint


def _require_bare_weights(found: dict[str, Any], path: Path) -> dict[str, Any]:
    weights = found.get("model", found)
    if isinstance(weights, dict) and weights and all(isinstance(v, Tensor) for v in weights.values()):
        return weights
    keys = ", ".join(map(str, list(found)[:5]))
    raise UserError(f"Expected weights under 'state_dict' in {path}, found the keys: {keys or 'none'}.")


def _read_safetensors(path: Path, map_location: MapLocation) -> dict[str, Any]:
    device = map_location if isinstance(map_location, str | torch.device) else "cpu"
    try:
        with safe_open(path, "pt") as file:
            classes = (file.metadata() or {}).get(_CLASSES)
        meta = {"meta": {"dataset_meta": {"classes": tuple(json.loads(classes))}}} if classes else {}
        return {"state_dict": OrderedDict(load_file(path, device=str(device))), **meta}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = _not_a_checkpoint(path) or "is not a complete safetensors file"
        raise UserError(f"{path} {reason} ({error}).") from error


def checkpoint_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names in a checkpoint's metadata; empty where there are none."""
    meta = checkpoint.get("meta", {}).get("dataset_meta") or {}
    return tuple(meta.get("classes") or meta.get("CLASSES") or ())


def safetensors_metadata(classes: Sequence[str]) -> dict[str, str]:
    """Return the metadata of a safetensors file from which `load_weights` reads the class names."""
    return {_CLASSES: json.dumps(classes)} if classes else {}


def read_torch(path: Path, map_location: MapLocation) -> Any:
    """Read a file of `torch.save`: tensors, plain values and mmengine's log history."""
    if reason := _not_a_checkpoint(path):
        raise UserError(f"Expected a checkpoint, but {path} {reason}.")
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return sanitise(torch.load(path, map_location=map_location, weights_only=True))
    except pickle.UnpicklingError as error:
        if _is_trusted(path):
            return _read_and_run(path, map_location)
        raise UserError(_refusal(path, error)) from error
    except Exception as error:  # a damaged file may raise any error
        raise UserError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes; {_first_line(error)}). "
            "Copy or download it again, or use an earlier checkpoint."
        ) from error


def _is_trusted(path: Path) -> bool:
    """Return whether the user named this file; folders and patterns do not count."""
    names = os.environ.get(TRUST, "").split(os.pathsep)
    return path.resolve() in {Path(name).expanduser().resolve() for name in names if name}


def _read_and_run(path: Path, map_location: MapLocation) -> Any:
    warn_code_runs(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=False)
    except Exception as error:
        raise UserError(f"{path} is trusted, but cannot be read here ({_first_line(error)}).") from error


@cache
def warn_code_runs(path: Path) -> None:
    """Warn, once per file, that its code runs."""
    text = f"{path} is trusted (see {TRUST}): its code is run. Save its state_dict again."
    print_log(text, "current", logging.WARNING)


def _not_a_checkpoint(path: Path) -> str | None:
    """Describe a file that is certainly not a checkpoint; None where it may be one."""
    with path.open("rb") as file:
        head = file.read(64)
    for start, description in _FIRST_BYTES.items():
        if (start and head.startswith(start)) or head == start:
            return description
    if path.suffix == ".safetensors" or head.startswith((b"PK\x03\x04", b"\x80")):
        return None
    return f"is neither a zip archive nor a pickle (it begins with {head[:12]!r})"


def _refusal(path: Path, error: Exception) -> str:
    # torch puts the reason behind advice to load without protection.
    reason = str(error.__context__ or error).strip().partition("\n")[0]
    request = _forbidden_request(reason)
    if request is None:
        return f"{path} is damaged or not a checkpoint ({reason})."
    return (
        f"{path} is refused: it {request}, and reading it could run code. Checkpoints hold tensors and plain "
        "values. If you trust its source, save its state_dict again where it was made, or let its code run "
        f"here: `--trust-checkpoint {path}`, or {TRUST}={path.resolve()} in the environment."
    )


def _forbidden_request(reason: str) -> str | None:
    if instruction := re.search(r"Unsupported operand (\d+)", reason):
        name = _INSTRUCTIONS.get(chr(int(instruction.group(1))))
        return f"uses the pickle instruction {name}" if name else None
    found = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(r"(?:but got|function) (.+)", reason)
    return f"asks for `{found.group(1)}`" if found else None


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
