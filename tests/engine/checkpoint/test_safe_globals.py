"""What a training's log history needs of pickle cannot be turned to other ends."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from torch import nn

from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.safe_globals import SAFE_GLOBALS
from ibkd_mm.errors import UserError

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3))
_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
_array, _scalar = np._core.multiarray._reconstruct, np._core.multiarray.scalar
_NUMBERS, _OBJECTS = np.dtype("f8"), np.dtype("O")
_ADDRESS = (0xDEAD0000).to_bytes(8, "little")
_FIELDS = (3, "<", None, ("a",), {"a": (_OBJECTS, 0)}, 8, 1, 0)


class Asks:
    """Pickles as a call of `function`, and then perhaps of the result's `__setstate__`."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def _filled(*state: Any) -> Asks:
    return Asks(_array, np.ndarray, (0,), b"b", state=(1, *state))


def _memory() -> Asks:
    """An OrderedDict that numpy takes for memory at an address."""
    interface = {"data": (1 << 40, True), "shape": (4,), "typestr": "<f8", "version": 3}
    return Asks(OrderedDict, state={"__array_interface__": interface})


def _history(**changes: Any) -> HistoryBuffer:
    history = HistoryBuffer([3.0], [1])
    history.__dict__.update(changes)
    return history


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _saved(extra: Any) -> Any:
    torch.save({"state_dict": WEIGHTS, "extra": extra}, "a.pth")
    return load_weights("a.pth")["extra"]


@pytest.mark.parametrize(
    ("object_", "asked"),
    [
        (Asks(os.mkdir, "ran"), "posix.mkdir"),
        (Asks(eval, "1"), "eval"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Asks(getattr, HistoryBuffer, "__init__"), "builtins.getattr"),
        (Asks(getattr, np.ndarray, "tofile"), "builtins.getattr"),
        (Asks(np.ndarray, (1,), _OBJECTS, _ADDRESS), "numpy.dtype"),
        (_OBJECTS, "numpy.dtype"),
        (Asks(np.dtype, "O"), "numpy.dtype"),
        (Asks(np.dtype, [("a", "O")]), "numpy.dtype"),
        (Asks(np.dtype, "f8", False, True, state=_FIELDS), "numpy.dtype"),
        (Asks(np.dtype, "f8", False, True, state=(3, ">", *[None] * 3, -1, -1, 0)), "numpy.dtype"),
        (_filled((1,), _NUMBERS, False, [1.0]), "numpy.ndarray"),
        (_filled((1,), "O", False, _ADDRESS), "numpy.ndarray"),
        (_filled((-1, -8), np.dtype("i1"), False, _ADDRESS), "numpy.ndarray"),
        (Asks(_array, HistoryBuffer, (0,), b"b"), "numpy.core.multiarray._reconstruct"),
        (Asks(_scalar, _NUMBERS, b"abc"), "numpy.core.multiarray.scalar"),
        (Asks(_scalar, "O", _ADDRESS), "numpy.core.multiarray.scalar"),
        (Asks(HistoryBuffer, _memory(), _memory()), _HISTORY),
        (_history(_log_history=_memory()), _HISTORY),
        (_history(_log_history=["a"]), _HISTORY),
        (_history(_log_history=np.zeros((1, 1))), _HISTORY),
    ],
)
def test_what_asks_for_more_is_refused_by_name(object_: Any, asked: str) -> None:
    with pytest.raises(UserError) as error:
        _saved(object_)
    assert str(error.value).startswith(
        f"a.pth is refused: it asks for `{asked}`, and reading it could run code"
    )
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "object_",
    [
        Asks(np.ndarray, (1,), "O", _ADDRESS),  # numpy would take the bytes for an object
        _filled((2,), _NUMBERS, False, bytes(8)),
        _history(_count_history=np.array([1, 2])),
        _history(max_length="many"),
        Asks(bytes, 10),
    ],
)
def test_what_makes_no_sense_is_damaged(object_: Any) -> None:
    with pytest.raises(UserError, match=r"a\.pth is damaged or cut short"):
        _saved(object_)


def test_an_array_is_filled_once() -> None:
    """Filled again, it would free memory that a tensor made of it still uses."""
    known = {name: kind for kind, name in SAFE_GLOBALS}
    array, kind = known["numpy.ndarray"](), known["numpy.dtype"]("f8")
    state = (1, (1,), kind, False, np.float64(2.5).tobytes())
    array.__setstate__(state)
    with pytest.raises(pickle.UnpicklingError):
        array.__setstate__(state)
    assert array.tolist() == [2.5]


def test_the_history_that_mmengine_saves_comes_back_as_it_was() -> None:
    found = _saved(HistoryBuffer([3.0, 5.0], [1, 2]))
    assert type(found) is HistoryBuffer
    assert found.mean() == pytest.approx(8 / 3)
    found.update(1.0)
    assert found.statistics("max") == 5.0
    assert _saved(found).data[0].tolist() == [3.0, 5.0, 1.0]
    assert _saved(HistoryBuffer()).data[0].tolist() == []


def test_functions_that_a_history_brings_are_not_taken_over() -> None:
    known = dict(HistoryBuffer._statistics_methods)
    found = _saved(_history(_statistics_methods={"mean": HistoryBuffer.max, "new": HistoryBuffer.max}))
    assert found.data[0].tolist() == [3.0]
    assert known == HistoryBuffer._statistics_methods


@pytest.mark.parametrize("kind", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
def test_numbers_of_every_kind_come_back_and_can_be_saved_again(kind: str) -> None:
    whole = np.arange(6).astype(kind).reshape(2, 3)
    for array in (whole, whole.T, whole[:, :0]):
        for found in (_saved(array), _saved(_saved(array))):
            np.testing.assert_array_equal(found, array)
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert _saved(whole[1, 1]) == whole[1, 1]
    assert _saved(whole[1, 1]).dtype == whole.dtype


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_a_pickle_says_it_is_read_or_refused(changes: list[tuple[float, int]]) -> None:
    """Bytes of a training's checkpoint are changed at random: a message or weights, never another error."""
    history = HistoryBuffer([3.0, 5.0], [1, 2])
    torch.save({"state_dict": WEIGHTS, "history": history, "best": np.float64(0.25)}, "real.pth")
    with zipfile.ZipFile("real.pth") as file:
        program = bytearray(file.read("real/data.pkl"))
    for place, value in changes:
        program[int(place * len(program))] = value
    with zipfile.ZipFile("real.pth") as real, zipfile.ZipFile("changed.pth", "w") as changed:
        for name in real.namelist():
            changed.writestr(name, program if name.endswith("data.pkl") else real.read(name))
    try:
        weights = load_weights("changed.pth")["state_dict"]
    except UserError as error:
        said = str(error)
    else:
        said = "changed.pth" * all(isinstance(name, str) for name in weights)
    assert "changed.pth" in said
