"""What a checkpoint may hold besides tensors and plain values: what mmengine's training writes, no more.

mmengine saves its log history as objects that carry functions, named in the pickle by `getattr`, and numpy's
arrays. numpy's own functions take raw bytes for pointers to objects where a file says so, and a dtype can be
changed by the file that holds it. So all of these are replaced while a file is read: the history keeps its
numbers alone, `getattr` reaches its four functions, and arrays are of plain numbers.
"""

import pickle
from typing import Any, NoReturn

import numpy as np
from mmengine.logging import HistoryBuffer

_STATISTICS = ("min", "max", "current", "mean")
_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_PLAIN = (None, None, None, -1, -1, 0)
"""A dtype's state after version and byte order: no parts, names or fields; sizes and flags as built in."""


def _refuse(asked: str, why: object) -> NoReturn:
    raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {asked} of {why}")


class _SavedType:
    """Stands for numpy.dtype: a type of numbers, which nothing later in the file can change."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in _CODES:
            _refuse("numpy.dtype", repr(code))
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|") or tuple(state[2:]) != _PLAIN:
            _refuse("numpy.dtype", state)


class _SavedArray(np.ndarray):
    """Stands for numpy.ndarray; is filled once, with numbers. Saved again, it is a plain array."""

    __slots__ = ()

    def __new__(cls) -> "_SavedArray":
        """Make an empty array; upstream's constructor would also take an address."""
        return super().__new__(cls, (0,), np.int8)

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, by_column, raw = state
        whole = all(type(length) is int and length >= 0 for length in shape)
        if self.size or not whole or type(kind) is not _SavedType or type(raw) is not bytes:
            _refuse("numpy.ndarray", f"{type(kind).__name__} with shape {shape}")
        super().__setstate__((version, shape, kind.dtype, by_column, raw))

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def _empty(kind: Any, *_: Any) -> _SavedArray:
    """Stand for numpy's `_reconstruct`."""
    if kind is not _SavedArray:
        _refuse("numpy.core.multiarray._reconstruct", kind)
    return _SavedArray()


def _scalar(kind: Any, raw: Any) -> Any:
    """Stand for numpy's `scalar`."""
    if type(kind) is not _SavedType or type(raw) is not bytes or len(raw) != kind.dtype.itemsize:
        _refuse("numpy.core.multiarray.scalar", kind)
    return np.frombuffer(raw, kind.dtype)[0]


def _no_bytes() -> bytes:
    """Stand for `bytes`: pickle calls it for those of an empty array, and for nothing else."""
    return b""


class _SavedHistory(HistoryBuffer):
    """Stands for HistoryBuffer in a file; turns into the real one as soon as it has its numbers."""

    def __init__(self, *_: Any) -> None:
        _refuse("mmengine.logging.history_buffer.HistoryBuffer", "arguments")

    def __setstate__(self, state: Any) -> None:
        values, counts = state["_log_history"], state["_count_history"]
        # Of these types only: numpy takes whatever names an address for an array.
        if not all(type(numbers) is _SavedArray and numbers.ndim == 1 for numbers in (values, counts)):
            _refuse("mmengine.logging.history_buffer.HistoryBuffer", "something else than numbers")
        self.__class__ = HistoryBuffer
        self.__init__(values, counts, int(state["max_length"]))  # type: ignore[misc]


def _statistic(owner: Any, name: str) -> Any:
    if owner is _SavedHistory and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    _refuse("builtins.getattr", f"{owner}.{name}")


SAFE_GLOBALS: list[Any] = [
    (_SavedHistory, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_statistic, "builtins.getattr"),
    (_no_bytes, "builtins.bytes"),
    (_SavedArray, "numpy.ndarray"),
    (_SavedType, "numpy.dtype"),
    # numpy 2 moved these; files written before name the old place.
    *((_empty, f"{place}.multiarray._reconstruct") for place in ("numpy._core", "numpy.core")),
    *((_scalar, f"{place}.multiarray.scalar") for place in ("numpy._core", "numpy.core")),
]
