"""What every portable operator computes in, whatever it is given and wherever it is called."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return float64 for float64 and float32 for all else: half precision only stores, it does not compute."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


@contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """Switch autocast off on the tensor's device.

    Without it autocast would turn the matrix products inside an operator back into half precision.
    """
    with torch.autocast(tensor.device.type, enabled=False):
        yield
