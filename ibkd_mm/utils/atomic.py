"""Files and folders that exist only once they are complete; locks between processes."""

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
    """Hold the lock file beside `path`; if `wait` is false, raise OSError where another process holds it.

    A process may lock a path again. Its lock ends with it, even if its child processes continue.
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
    """Yield a new folder beside `path`; rename it to `path` at the end, or remove it after an error."""
    with file_lock(path):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            found = "a folder with files" if path.is_dir() else "a file"
            raise UserError(f"Expected {path} to be new or an empty folder, found {found}. Choose another.")
        for stale in path.parent.glob(f".{escape(path.name)}.*.draft"):
            shutil.rmtree(stale, ignore_errors=True)  # its process is dead, else we would not have the lock
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent))
        try:
            yield draft
            draft.chmod(0o755)
            os.sync()  # one call for all files: there may be a hundred thousand
            draft.rename(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to `path` once all data is on the disk."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        yield partial
        commit(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def commit(draft: Path, path: Path) -> None:
    """Rename a file after all its data is on the disk."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write a rename to the disk, so that it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
