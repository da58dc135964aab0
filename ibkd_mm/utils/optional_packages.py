"""The packages that run exported models, which need not be installed."""

from importlib import import_module
from typing import Any

from ibkd_mm.errors import UserError


def require_package(name: str, purpose: str) -> Any:
    """Import a package, or say how to get it.

    Args:
        name: of the package.
        purpose: what it is needed for.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {name}, which cannot be imported ({error}). "
            "Install it: pip install -r requirements/deploy.txt"
        ) from error
