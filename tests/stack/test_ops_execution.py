from types import SimpleNamespace

import pytest
import torch

from ibkd_mm.stack.ops.execution import one_thread


@pytest.fixture
def threads():
    """Three threads, whatever this machine has, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield torch.get_num_threads
    torch.set_num_threads(before)


def test_a_cpu_works_alone_inside_and_with_all_threads_again_afterwards(threads):
    with one_thread(torch.zeros(1)):
        assert threads() == 1
    assert threads() == 3


def test_the_threads_come_back_after_an_error(threads):
    with pytest.raises(ZeroDivisionError), one_thread(torch.zeros(1)):
        raise ZeroDivisionError
    assert threads() == 3


def test_for_a_gpu_nothing_changes(threads):
    with one_thread(SimpleNamespace(device=torch.device("cuda"))):
        assert threads() == 3
