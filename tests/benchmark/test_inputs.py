"""Inputs of files that declare only names, types and shapes."""

from pathlib import Path

import numpy as np
import pytest

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings
from ibkd_mm.benchmark.exported import make_input, resolve_shape
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
    settings = BenchmarkSettings(size=size, batch=batch)
    if expected is None:
        with pytest.raises(UserError, match=r"input 'x' of net.onnx is open \(\?x\?x\?x3\).*--size 640 640"):
            resolve_shape(FILE, "x", lengths, settings)
    else:
        assert resolve_shape(FILE, "x", lengths, settings) == expected


def test_a_files_own_size_is_the_default() -> None:
    lengths = (None, 3, None, None)
    assert resolve_shape(FILE, "x", lengths, BenchmarkSettings(), (64, 96)) == (1, 3, 64, 96)
    assert resolve_shape(FILE, "x", lengths, BenchmarkSettings(size=(32, 32)), (64, 96)) == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("lengths", "settings", "message"),
    [
        (
            (1, 3, 64, 96),
            BenchmarkSettings(size=(96, 64)),
            r"Expected --size 64 96 for .*1x3x64x96.*found 96 64",
        ),
        ((8, 3, 64, 96), BenchmarkSettings(), r"Expected --batch 8 for .*found 1"),
        ((1, 3, 64, 96), BenchmarkSettings(batch=2), r"Expected --batch 1 for .*found 2"),
        (
            (None, None, 4),
            BenchmarkSettings(size=(64, 96)),
            r"'x' of net.onnx is open \(\?x\?x4\)\. Only the batch",
        ),
    ],
)
def test_a_shape_that_contradicts_the_settings_is_refused(lengths, settings, message) -> None:
    with pytest.raises(UserError, match=message):
        resolve_shape(FILE, "x", lengths, settings)


def test_inputs_are_noise_for_images_and_ones_for_integers() -> None:
    image, numbers = make_input((1, 8, 8, 3), np.dtype("u1")), make_input((2, 3), np.dtype("i8"))
    assert (image.dtype, image.shape, len(np.unique(image)) > 50) == (np.uint8, (1, 8, 8, 3), True)
    assert (numbers.dtype, numbers.tolist()) == (np.int64, [[1, 1, 1], [1, 1, 1]])
    noise = make_input((1, 3, 8, 8), np.dtype("f2"))
    assert noise.dtype == np.float16
    assert 0 <= noise.min() < noise.max() <= 1
