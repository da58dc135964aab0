import os

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.utils import parallel


@pytest.mark.parametrize("workers", [1, 2, None])
def test_results_are_in_order_for_any_number_of_processes(workers, monkeypatch):
    monkeypatch.setattr(parallel, "_ITEMS_PER_WORKER", 1)
    assert list(parallel.parallel_map(abs, range(-20, 0), workers)) == list(range(20, 0, -1))


def test_few_items_are_computed_in_this_process():
    assert set(parallel.parallel_map(_process, range(20), 2)) == {os.getpid()}


def test_a_killed_process_is_a_user_error(monkeypatch):
    monkeypatch.setattr(parallel, "_ITEMS_PER_WORKER", 1)
    with pytest.raises(UserError, match=r"One of 2 worker processes was killed.*--workers"):
        list(parallel.parallel_map(_die, range(20), 2))


def _process(_):
    return os.getpid()


def _die(_):
    os._exit(9)
