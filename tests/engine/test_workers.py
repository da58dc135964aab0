"""A loader's worker leaves signals to the main process, which alone can end it."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ibkd_mm.engine.workers import WorkerStart, ignore_signals_in_workers

fork = get_context("fork")


def _work(ready: Any) -> None:
    WorkerStart(lambda number: ready.put(number))(3)
    time.sleep(60)


@pytest.fixture
def worker() -> Iterator[BaseProcess]:
    ready = fork.Queue()
    process = fork.Process(target=_work, args=(ready,))
    process.start()
    assert ready.get(timeout=20) == 3  # what the loader's own function was given
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
def test_a_signal_of_another_process_changes_nothing(worker: BaseProcess, name: str) -> None:
    subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    worker.join(0.3)
    assert worker.is_alive()


def test_the_main_process_ends_it(worker: BaseProcess) -> None:
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 128 + signal.SIGTERM


def test_a_loader_is_prepared_once() -> None:
    loader = DataLoader([1, 2], worker_init_fn=print)
    start = ignore_signals_in_workers(loader).worker_init_fn
    assert isinstance(start, WorkerStart)
    assert start.inner is print
    assert ignore_signals_in_workers(loader).worker_init_fn is start


def test_a_training_and_a_validation_leave_no_worker(toy: Callable[..., Any], tmp_path: Path) -> None:
    runner = toy(tmp_path, 2, workers=1, validate=True, val_workers=1, loop={"val_interval": 1})
    before = set(active_children())
    runner.train()
    assert runner.val_loop.dataloader.persistent_workers
    assert set(active_children()) <= before
    assert runner.val()
    assert set(active_children()) <= before
