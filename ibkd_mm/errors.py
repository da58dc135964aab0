"""The exception for wrong input, and suggestions for misspelt names. Standard library only."""

from __future__ import annotations  # see ibkd_mm.cli

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Wrong input. The message, shown alone, says what was expected, what was found and how to fix it."""


def did_you_mean(found: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` with the most similar known name, or an empty string."""
    by_lower = {name.lower(): name for name in known}
    similar = get_close_matches(found.lower(), by_lower, n=1, cutoff=cutoff)
    return f" Did you mean '{by_lower[similar[0]]}'?" if similar else ""
