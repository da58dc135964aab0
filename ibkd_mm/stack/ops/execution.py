"""How portable operators compute, whatever they are given and wherever they are called."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return float64 for float64, float32 for all else: half precision is for storing, not for computing."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


@contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """Switch autocast off on the tensor's device.

    Without it autocast would turn the matrix products inside an operator back into half precision.
    """
    with torch.autocast(tensor.device.type, enabled=False):
        yield


@contextmanager
def one_thread(tensor: Tensor) -> Iterator[None]:
    """Let a CPU work alone on hundreds of small steps.

    A team of threads meets after every step. That gains little on small ones, and where data loading keeps
    the other cores busy each meeting waits for a turn of the scheduler: measured, up to fifty times slower.
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
