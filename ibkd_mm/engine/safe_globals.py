"""What a checkpoint may hold besides tensors and plain values: what mmengine's training writes, no more.

mmengine saves its log history as objects that carry functions, named in the pickle by `getattr`. Both are
replaced while a file is read: the history keeps its numbers alone, and `getattr` reaches its four functions.
"""

import pickle
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

_STATISTICS = ("min", "max", "current", "mean")
_DTYPES = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")


class _SavedHistory(HistoryBuffer):
    """Stands for HistoryBuffer in a file; turns into the real one as soon as it has its numbers."""

    def __setstate__(self, state: Any) -> None:
        values, counts = np.asarray(state["_log_history"]), np.asarray(state["_count_history"])
        if values.dtype.kind not in "fiub" or counts.dtype.kind not in "fiub":
            raise pickle.UnpicklingError("the log history holds something else than numbers")
        self.__class__ = HistoryBuffer
        self.__init__(values, counts, int(state["max_length"]))  # type: ignore[misc]


def _statistic(owner: Any, name: str) -> Any:
    if owner is _SavedHistory and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f"Unsupported global: GLOBAL builtins.getattr of {owner}.{name}")


def _safe_globals() -> list[Any]:
    # numpy 2 moved these; files written before name the old place.
    places = ("numpy._core.multiarray", "numpy.core.multiarray")
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    allowed: list[Any] = [
        (getattr(multiarray, name), f"{place}.{name}") for place in places for name in _MULTIARRAY
    ]
    allowed += [
        (_SavedHistory, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_statistic, "builtins.getattr"),
    ]
    return [*allowed, np.ndarray, np.dtype, *{type(np.dtype(name)) for name in _DTYPES}]


_MULTIARRAY = ("_reconstruct", "scalar")
SAFE_GLOBALS = _safe_globals()
