"""Random numbers drawn aside, so that a student with a teacher draws what it would have drawn without."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Put back the generators of Python, numpy and torch, whatever was drawn inside."""
    own, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(arrays)
