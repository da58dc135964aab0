"""Hashes of files and of settings."""

import hashlib
import json
from pathlib import Path
from typing import Any

_PIECE = 2**20


def hash_of_file(path: Path) -> str:
    """Hash what is in a file: SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def hash_of_value(value: Any) -> str:
    """Hash settings as JSON writes them, whatever the order of their keys: SHA-256, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
