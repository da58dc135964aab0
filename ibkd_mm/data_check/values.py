"""Validate and format values of a JSON file, which may be anything."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_numbers(values: Any) -> NDArray[np.float64] | None:
    """Convert a list of numbers to an array; return None for anything else."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:  # JSON has no largest integer
        return np.array([np.inf])


def is_length(value: Any) -> bool:
    """Return whether a value can be a number of pixels."""
    return type(value) in (int, float) and 0 < value < 1 << 31 and value == int(value)


def read_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height of an entry; None if one is missing or invalid."""
    width, height = entry.get("width", 0), entry.get("height", 0)
    return (int(width), int(height)) if is_length(width) and is_length(height) else None


def shorten(value: Any) -> str:
    """Format a value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def join_limited(values: Sequence[object], limit: int) -> str:
    """Join values with commas and replace those beyond `limit` by their number."""
    text = ", ".join(map(str, values[:limit]))
    return text if len(values) <= limit else f"{text} and {len(values) - limit} more"
