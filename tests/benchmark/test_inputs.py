"""Inputs of files that tell only names, kinds and shapes."""

from pathlib import Path

import numpy as np
import pytest

from ibkd_mm.benchmark.inputs import make_input, settle_shape
from ibkd_mm.benchmark.subject import Settings
from ibkd_mm.errors import UserError

FILE = Path("net.onnx")


@pytest.mark.parametrize(
    ("lengths", "size", "batch", "expected"),
    [
        ((1, 3, 64, 96), None, 1, (1, 3, 64, 96)),
        ((1, 3, 64, 96), (64, 96), 1, (1, 3, 64, 96)),
        ((None, 3, None, None), (64, 96), 4, (4, 3, 64, 96)),
        ((None, None, None, 3), None, 1, None),
        ((None, None, None, 3), (64, 96), 2, (2, 64, 96, 3)),
        ((8, 3, 64, 96), None, 8, (8, 3, 64, 96)),
        ((None, 77), None, 2, (2, 77)),
        ((2,), None, 1, (2,)),
        ((), (64, 96), 1, ()),
    ],
)
def test_open_lengths_are_filled_in(lengths, size, batch, expected) -> None:
    settings = Settings(size=size, batch=batch)
    if expected is None:
        with pytest.raises(UserError, match=r"leaves its input 'x' open \(\?x\?x\?x3\).*--size 640 640"):
            settle_shape(FILE, "x", lengths, settings)
    else:
        assert settle_shape(FILE, "x", lengths, settings) == expected


def test_a_files_own_size_fills_in_where_none_is_asked_for() -> None:
    lengths = (None, 3, None, None)
    assert settle_shape(FILE, "x", lengths, Settings(), (64, 96)) == (1, 3, 64, 96)
    assert settle_shape(FILE, "x", lengths, Settings(size=(32, 32)), (64, 96)) == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("lengths", "settings", "message"),
    [
        ((1, 3, 64, 96), Settings(size=(96, 64)), r"1x3x64x96.*--size asks for 96x64\. Leave --size out"),
        ((8, 3, 64, 96), Settings(), r"takes 8 pictures at a time.*Give --batch 8"),
        ((1, 3, 64, 96), Settings(batch=2), r"takes 1 pictures at a time.*Give --batch 1"),
        ((None, None, 4), Settings(size=(64, 96)), r"'x' open \(\?x\?x4\)\. Only the batch"),
    ],
)
def test_what_does_not_go_together_is_said(lengths, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        settle_shape(FILE, "x", lengths, settings)


def test_inputs_are_noise_for_pictures_and_ones_for_numbers() -> None:
    picture, numbers = make_input((1, 8, 8, 3), np.dtype("u1")), make_input((2, 3), np.dtype("i8"))
    assert (picture.dtype, picture.shape, len(np.unique(picture)) > 50) == (np.uint8, (1, 8, 8, 3), True)
    assert (numbers.dtype, numbers.tolist()) == (np.int64, [[1, 1, 1], [1, 1, 1]])
    noise = make_input((1, 3, 8, 8), np.dtype("f2"))
    assert noise.dtype == np.float16
    assert 0 <= noise.min() < noise.max() <= 1
