"""Files and folders that are finished or not there, each made by one process at a time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from ibkd_mm.errors import UserError

PARTIAL = ".partial"

_held: set[tuple[int, Path]] = set()


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock that stands beside `path`; whoever else asks for it waits. A holder may ask again.

    Who is not to `wait` gets an OSError where another process holds it.

    The lock is its process's own: it ends with that process, even where children outlive it.
    """
    key = os.getpid(), path.resolve()
    if key in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        _held.add(key)
        try:
            yield
        finally:
            _held.remove(key)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, which takes its place on the disk once the block has ended well.

    A block that fails leaves nothing behind, and what a killed process left is cleared away by the next.
    """
    with file_lock(path):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UserError(f"Expected {path} to be free or an empty folder, and it is not. Choose another.")
        for stale in path.parent.glob(f".{escape(path.name)}.*.draft"):
            shutil.rmtree(stale, ignore_errors=True)  # its maker is dead, or we had not the lock
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent))
        try:
            yield draft
            draft.chmod(0o755)
            os.sync()  # once, as there may be a hundred thousand files
            draft.rename(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file stands under `path` only once all of it is on the disk."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        yield partial
        commit(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def commit(draft: Path, path: Path) -> None:
    """Rename a file once all of it is on the disk."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
