"""Data loader workers that ignore the signals that a terminal or scheduler sends to all processes of a job.

A signal that ends a worker would stop the training in the middle of a step, before the main process can save.
"""

import os
import signal
from threading import Thread
from typing import Any

from torch.utils.data import DataLoader

from ibkd_mm.stack.internals import drop_loader_iterator


class WorkerStart:
    """Make a worker process ignore signals, then call the loader's own `worker_init_fn`."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, worker: int) -> None:
        """Run in the worker before it loads anything."""
        for number in (signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            Thread(target=_exit_on_parents_signal, daemon=True).start()
        if self.inner is not None:
            self.inner(worker)


def ignore_signals_in_workers(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Make the workers that a loader will start ignore signals."""
    if not isinstance(loader.worker_init_fn, WorkerStart):
        loader.worker_init_fn = WorkerStart(loader.worker_init_fn)
    return loader


def shut_down_workers(loop: Any) -> None:
    """End the workers of a loop, if the loop was built."""
    for name in ("dataloader", "dataloader_iterator"):
        holder = getattr(loop, name, None)
        if holder is not None:
            drop_loader_iterator(holder)


def _exit_on_parents_signal() -> None:
    """Exit on SIGTERM of the main process alone: DataLoader and Python's exit end workers with it."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in (os.getppid(), os.getpid()):
        pass
    os._exit(128 + signal.SIGTERM)
