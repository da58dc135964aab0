"""The one exception that means: the input is wrong, and here is what to do. Standard library only."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Wrong input. The message names what was expected, what was found, what to do; tools show it alone."""


def did_you_mean(found: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Say the nearest of the known names as ` Did you mean 'x'?`, or nothing where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(found.lower(), by_lower, n=1, cutoff=cutoff)
    return f" Did you mean '{by_lower[near[0]]}'?" if near else ""
