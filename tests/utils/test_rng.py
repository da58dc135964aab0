"""Whatever is drawn aside, the three generators go on as if it had not been."""

import random

import numpy as np
import pytest
import torch

from ibkd_mm.utils.rng import preserve_rng_state


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_the_generators_of_python_numpy_and_torch_are_put_back() -> None:
    expected = draw(), draw()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    first = draw()
    with preserve_rng_state():
        assert draw() == expected[1]  # aside, and not from another seed
        draw()
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
    assert (first, draw()) == expected


def test_they_are_put_back_after_an_error_too() -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    def fail() -> None:
        with preserve_rng_state():
            draw()
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
