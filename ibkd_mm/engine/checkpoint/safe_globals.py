"""Replacements for the classes and functions that mmengine's checkpoints name in their pickles.

mmengine saves its log history as objects with functions, named by `getattr`, and as numpy arrays. numpy's own
functions read raw bytes as pointers if a file says so, and a file can change a dtype. So while a file is read
a history keeps only numbers, `getattr` reaches only its four functions, and arrays hold only plain numbers.
"""

import pickle
from typing import Any, NoReturn

import numpy as np
from mmengine.logging import HistoryBuffer
from torch import Tensor

_STATISTICS = ("min", "max", "current", "mean")
_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
# State of a plain dtype after version and byte order: no parts, names or fields; default size and flags.
_PLAIN = (None, None, None, -1, -1, 0)


def _refuse(name: str, argument: object) -> NoReturn:
    raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {name} of {argument}")


class _SavedType:
    """Replaces numpy.dtype: a number type that the rest of the file cannot change."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in _CODES:
            _refuse("numpy.dtype", repr(code))
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|") or tuple(state[2:]) != _PLAIN:
            _refuse("numpy.dtype", state)


class _SavedArray(np.ndarray):
    """Replaces numpy.ndarray: filled once, with numbers. It is saved as a plain array."""

    __slots__ = ()

    def __new__(cls) -> "_SavedArray":
        """Create an empty array; numpy's constructor would also accept an address."""
        return super().__new__(cls, (0,), np.int8)

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, by_column, raw = state
        valid = all(type(length) is int and length >= 0 for length in shape)
        if self.size or not valid or type(kind) is not _SavedType or type(raw) is not bytes:
            _refuse("numpy.ndarray", f"{type(kind).__name__} with shape {shape}")
        super().__setstate__((version, shape, kind.dtype, by_column, raw))

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def _empty(kind: Any, *_: Any) -> _SavedArray:
    if kind is not _SavedArray:
        _refuse("numpy.core.multiarray._reconstruct", kind)
    return _SavedArray()


def _scalar(kind: Any, raw: Any) -> Any:
    if type(kind) is not _SavedType or type(raw) is not bytes or len(raw) != kind.dtype.itemsize:
        _refuse("numpy.core.multiarray.scalar", kind)
    return np.frombuffer(raw, kind.dtype)[0]


class _SavedHistory(HistoryBuffer):
    """Replaces HistoryBuffer, and becomes one as soon as it has its numbers."""

    def __init__(self, *_: Any) -> None:
        _refuse("mmengine.logging.history_buffer.HistoryBuffer", "arguments")

    def __setstate__(self, state: Any) -> None:
        values, counts = state["_log_history"], state["_count_history"]
        # Only these types: numpy reads any object that names an address as an array.
        if not all(type(numbers) is _SavedArray and numbers.ndim == 1 for numbers in (values, counts)):
            _refuse("mmengine.logging.history_buffer.HistoryBuffer", "something other than numbers")
        self.__class__ = HistoryBuffer
        self.__init__(values, counts, int(state["max_length"]))  # type: ignore[misc]


def _statistic(owner: Any, name: str) -> Any:
    if owner is _SavedHistory and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    _refuse("builtins.getattr", f"{owner}.{name}")


SAFE_GLOBALS: list[Any] = [
    (_SavedHistory, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_statistic, "builtins.getattr"),
    (lambda: b"", "builtins.bytes"),  # which pickle calls only for the data of an empty array
    (_SavedArray, "numpy.ndarray"),
    (_SavedType, "numpy.dtype"),
    # numpy 2 moved these; older files name the old module.
    *((_empty, f"{module}.multiarray._reconstruct") for module in ("numpy._core", "numpy.core")),
    *((_scalar, f"{module}.multiarray.scalar") for module in ("numpy._core", "numpy.core")),
]


def sanitise(loaded: Any) -> Any:
    """Remove the attributes that a file set on dictionaries and tensors, except `_metadata`.

    A pickle may give an OrderedDict its own `get`, or an `__array_interface__`, with which numpy reads any
    address in memory.
    """
    visited, stack = set[int](), [loaded]
    while stack:
        value = stack.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, dict | Tensor):
            attributes = getattr(value, "__dict__", {})
            stack.append(attributes.get("_metadata"))
            for name in [name for name in attributes if name != "_metadata"]:
                del attributes[name]
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list | tuple | set):
            stack.extend(value)
    return loaded
