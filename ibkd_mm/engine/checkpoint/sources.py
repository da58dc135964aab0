"""Turn every reference to a checkpoint (path, URL, name of released weights) into a local file."""

import json
import re
from pathlib import Path

import mmengine
import torch
from mmengine.runner.checkpoint import get_external_models, get_mmcls_models

import ibkd_mm
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.utils.download import download

SHIPPED, MMCLS = "ibkd_mm::", "mmcls://"
_WEB = ("http://", "https://")
_TORCHVISION = ("torchvision://", "modelzoo://")
_OPENMMLAB = ("open-mmlab://", "openmmlab://")
_REFUSED = ("pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://")

# Regular expressions, as mmengine's CheckpointLoader takes them; the empty one is a plain path.
PREFIXES = ("", SHIPPED, MMCLS, *_WEB, *_TORCHVISION, *_OPENMMLAB, *_REFUSED)
_HASH = re.compile(r"-(?!\d+\.)([0-9a-f]{8,64})\.\w+$")  # digits alone may be a date


def locate(reference: str) -> Path:
    """Return the file for a path, URL or name of released weights; download it if necessary."""
    if reference.startswith(SHIPPED):
        return _shipped(reference.removeprefix(SHIPPED))
    if reference.startswith(_WEB):
        return _download(reference)
    if reference.startswith((*_TORCHVISION, *_OPENMMLAB, MMCLS)):
        return _released(reference)
    if any(re.match(prefix, reference) for prefix in _REFUSED):
        raise UserError(
            f"Checkpoints cannot be read from {reference}. Copy the file to this machine and use its path."
        )
    return _local(reference)


def check_exists(reference: str) -> None:
    """Raise UserError for a missing file; weights that must be downloaded are checked when they are."""
    if not reference.startswith((*_WEB, *_TORCHVISION, *_OPENMMLAB, MMCLS)):
        locate(reference)


def _local(reference: str) -> Path:
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        inside = ", ".join(sorted(found.name for found in path.glob("*.pth"))[:5]) or "no .pth file"
        raise UserError(f"Expected a checkpoint file, found the folder {path}. In it: {inside}.")
    names = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"There is no checkpoint {path}.{did_you_mean(path.name, names)}")


def _shipped(name: str) -> Path:
    folder = Path(ibkd_mm.__file__).parent / "weights"
    path = folder / name.removeprefix("weights/")
    if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
        return path
    names = sorted(found.name for found in folder.glob("*.safetensors"))
    hint = did_you_mean(path.name, names)
    raise UserError(f"ibkd_mm ships no weights named {name}.{hint} Available: {', '.join(names) or 'none'}.")


def _released(reference: str) -> Path:
    scheme, _, name = reference.partition("://")
    if scheme in ("torchvision", "modelzoo"):
        # mmengine's own list: torchvision may not be installed.
        table = json.loads((Path(mmengine.__file__).parent / "hub" / "torchvision_0.12.json").read_text())
    else:
        table = get_mmcls_models() if scheme == "mmcls" else get_external_models()
    if name not in table:
        raise UserError(f"No released weights are named {reference}.{did_you_mean(name, table)}")
    return locate(table[name])


def _download(url: str) -> Path:
    """Download once into torch's cache; verify the hash in the file's name."""
    name = re.split("[?#]", url)[0].rpartition("/")[2]
    if name in ("", ".", ".."):
        raise UserError(f"Expected a URL that ends in the name of a file, found {url}.")
    found = _HASH.search(name)
    return download(url, Path(torch.hub.get_dir()) / "checkpoints" / name, found.group(1) if found else None)
