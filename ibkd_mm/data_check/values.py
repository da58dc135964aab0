"""Values out of a JSON file, of which nothing can be taken for granted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_numbers(values: Any) -> NDArray[np.float64] | None:
    """Turn a list of numbers into an array; None for anything else."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:  # JSON knows no largest integer
        return np.array([np.inf])


def is_id(value: Any) -> bool:
    """Tell whether this can identify an entry."""
    return type(value) in (int, str, float)


def is_text(value: Any) -> bool:
    """Tell whether this can be a name."""
    return isinstance(value, str) and value != ""


def is_length(value: Any) -> bool:
    """Tell whether this can be a number of pixels."""
    return type(value) in (int, float) and 0 < value < 1 << 31 and value == int(value)


def as_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Turn width and height into a size; None where they are none."""
    return (int(width), int(height)) if is_length(width) and is_length(height) else None


def shortly(value: Any) -> str:
    """Show a value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
