"""Precision and threads of the portable operators."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 for float64, float32 for every other dtype."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def full_precision(tensor: Tensor) -> torch.autocast:
    """Disable autocast on the tensor's device, which would run matrix products in half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


@contextmanager
def one_thread(tensor: Tensor) -> Iterator[None]:
    """Compute hundreds of small steps on one CPU thread.

    Threads synchronise after every step. While data loading keeps the other cores busy, each synchronisation
    waits for the scheduler: measured up to fifty times slower.
    """
    threads = torch.get_num_threads()
    if tensor.device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
