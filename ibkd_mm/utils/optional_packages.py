"""Packages that only exported models need."""

from importlib import import_module
from typing import Any

from ibkd_mm.errors import UserError


def require_package(name: str, purpose: str) -> Any:
    """Import and return a package that `purpose`, the subject of the error's sentence, needs."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {name}, which cannot be imported ({error}). "
            "Install it: pip install -r requirements/deploy.txt"
        ) from error
