"""Loader workers that leave it to the main process to answer signals.

Schedulers send a signal to every process of a job, a terminal its Ctrl-C too. A worker that dies of it takes
the training with it, in the middle of a step that was to be finished and saved.
"""

import os
import signal
from threading import Thread
from typing import Any

from torch.utils.data import DataLoader


class WorkerStart:
    """Prepare a worker's process, then do what the loader's own `worker_init_fn` does."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, worker: int) -> None:
        """Run in the worker before it reads anything."""
        for number in (signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            Thread(target=_end_with_parent, daemon=True).start()
        if self.inner is not None:
            self.inner(worker)


def ignore_signals_in_workers(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Make the workers that a loader will start leave signals to the main process."""
    if not isinstance(loader.worker_init_fn, WorkerStart):
        loader.worker_init_fn = WorkerStart(loader.worker_init_fn)
    return loader


def shut_down_workers(loop: Any) -> None:
    """End the workers of a loop, if it was built: torch waits five seconds for each that becomes garbage."""
    for holder in ("dataloader", "dataloader_iterator"):
        held = getattr(loop, holder, None)
        if held is not None:
            held._iterator = None


def _end_with_parent() -> None:
    """Let only the main process end this one: that is how loaders and Python's exit clear workers away."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in (os.getppid(), os.getpid()):
        pass
    os._exit(128 + signal.SIGTERM)
