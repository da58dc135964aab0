"""The one loader of every checkpoint: weights, never programs.

mmengine keeps a table of loaders by prefix. This one takes every entry of it, so `load_from`, `resume`,
`init_cfg=dict(type='Pretrained')` and inferencers all come through here. Upstream's own loader repeats a
refused load with `weights_only=False`, which runs whatever the file says; this one does so for the very files
that the user has named, and for no others.
"""

import json
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ibkd_mm.engine.checkpoint.safe_globals import SAFE_GLOBALS
from ibkd_mm.engine.checkpoint.sanitise import normalised, sanitise
from ibkd_mm.engine.checkpoint.sources import MMCLS, PREFIXES, locate
from ibkd_mm.engine.checkpoint.trust import is_trusted, trust_hint, warn_code_runs
from ibkd_mm.errors import UserError

MapLocation = str | torch.device | Callable[..., Any] | None

_CLASSES = "ibkd_mm.classes"

_FIRST_BYTES = {
    b"": "is empty",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run `git lfs pull`",
    b"<": "is a web page, most likely the error page of a failed download",
}
_INSTRUCTIONS = {instruction.code: instruction.name for instruction in pickletools.opcodes}


def load_weights(reference: str | Path, map_location: MapLocation = "cpu") -> dict[str, Any]:
    """Read a checkpoint from a path, URL or `ibkd_mm::NAME`; its weights stand under `state_dict`.

    Raises UserError for a file that is missing, damaged, of another kind, or that would run code when read.
    """
    path = locate(str(reference))
    loaded = (
        _read_safetensors(path, map_location)
        if path.suffix == ".safetensors"
        else read_torch(path, map_location)
    )
    checkpoint = normalised(loaded, path)
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
        with safe_open(path, "pt") as file:
            classes = (file.metadata() or {}).get(_CLASSES)
        meta = {"meta": {"dataset_meta": {"classes": tuple(json.loads(classes))}}} if classes else {}
        return {"state_dict": OrderedDict(load_file(path, device=str(device))), **meta}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} {_looks_like(path) or 'is not a whole safetensors file'} ({error})."
        ) from error


def checkpoint_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the classes that a checkpoint was trained on, where it says so."""
    meta = checkpoint.get("meta", {}).get("dataset_meta") or {}
    return tuple(meta.get("classes") or meta.get("CLASSES") or ())


def safetensors_metadata(classes: Sequence[str]) -> dict[str, str]:
    """Write what `load_weights` reads of classes beside the weights."""
    return {_CLASSES: json.dumps(classes)} if classes else {}


def read_torch(path: Path, map_location: MapLocation) -> Any:
    """Read what torch saved: tensors, plain values, and the history of a log."""
    foreign = _looks_like(path)
    if foreign:
        raise UserError(f"Expected a checkpoint, but {path} {foreign}.")
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return sanitise(torch.load(path, map_location=map_location, weights_only=True))
    except pickle.UnpicklingError as error:
        if is_trusted(path):
            return _run_trusted(path, map_location)
        raise UserError(_refusal(path, error)) from error
    except Exception as error:  # a damaged file fails anywhere, in any way
        raise UserError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes; {_first_line(error)}). "
            "Copy or download it again, or use an earlier checkpoint."
        ) from error


def _run_trusted(path: Path, map_location: MapLocation) -> Any:
    warn_code_runs(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=False)
    except Exception as error:
        raise UserError(f"{path} is trusted, but cannot be read here ({_first_line(error)}).") from error


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
    asked = _asked(reason)
    if asked is None:
        return f"{path} is damaged or no checkpoint ({reason})."
    return (
        f"{path} is refused: it {asked}, and reading it could run code. Checkpoints hold tensors and plain "
        f"values. {trust_hint(path)}"
    )


def _asked(reason: str) -> str | None:
    instruction = re.search(r"Unsupported operand (\d+)", reason)
    if instruction:
        name = _INSTRUCTIONS.get(chr(int(instruction.group(1))))
        return f"uses the pickle instruction {name}" if name else None
    found = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(r"(?:but got|function) (.+)", reason)
    return f"asks for `{found.group(1)}`" if found else None


def _backbone_only(weights: dict[str, Any]) -> dict[str, Any]:
    return OrderedDict(
        (k.removeprefix("backbone."), v) for k, v in weights.items() if k.startswith("backbone.")
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
