"""SHA-256 of files and settings."""

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def hash_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of_value(value: Any) -> str:
    """Return the SHA-256 of settings as JSON, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
