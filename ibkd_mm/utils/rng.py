"""The random number generators of Python, numpy and torch: seed them, or leave them as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """Hash integers into one 64-bit integer (SplitMix64, the numbers are folded in one after the other)."""
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def seed_everything(*numbers: int) -> None:
    """Seed Python, numpy and torch, on every device, with a hash of the numbers.

    A training seeds every step and sample by its position: a generator that runs through the whole training
    cannot be resumed exactly, as loader workers prefetch, and validation draws too.
    """
    seed = mix(*numbers)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed >> 1)


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Restore the state of the generators at the end, whatever was drawn inside."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
