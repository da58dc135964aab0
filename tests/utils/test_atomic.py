"""A half-done conversion is never taken for a finished one."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_folder, atomic_write, commit, file_lock

_fork = multiprocessing.get_context("fork")


def _convert(path: Path, parts: int = 3, wait: Any = None) -> None:
    """Write some files, and stop in the middle until somebody says go, or for ever."""
    with atomic_folder(path) as draft:
        for part in range(parts):
            (draft / "inner").mkdir(exist_ok=True)
            (draft / "inner" / f"{part}.txt").write_text("whole")
            if wait is not None and part == 1:
                wait.set()
                time.sleep(60)


def _start(target: Any, *args: Any) -> Any:
    process = _fork.Process(target=target, args=args)
    process.start()
    return process


def _kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_conversion_is_there_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    with atomic_folder(path) as draft:
        assert draft.parent == path.parent  # so that the rename cannot become a copy
        assert not path.exists()
        (draft / "a").write_text("one")
    assert (path / "a").read_text() == "one"
    assert path.stat().st_mode & 0o777 == 0o755
    assert _names(path.parent) == [".data.lock", "data"]


def _fail(path: Path, error: type[BaseException]) -> None:
    with atomic_folder(path) as draft:
        (draft / "a").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        _fail(tmp_path / "data", error)
    assert _names(tmp_path) == [".data.lock"]


def test_a_conversion_killed_in_the_middle_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    stands = _fork.Event()
    process = _start(_convert, tmp_path / "data", 3, stands)
    assert stands.wait(30)
    _kill(process)
    assert not (tmp_path / "data").exists()
    assert any(name.startswith(".data.") and name.endswith(".draft") for name in _names(tmp_path))
    (tmp_path / ".data2.x.draft").mkdir()  # of another conversion
    _convert(tmp_path / "data")
    assert _names(tmp_path / "data" / "inner") == ["0.txt", "1.txt", "2.txt"]
    assert _names(tmp_path) == [".data.lock", ".data2.x.draft", "data"]


def _with_orphan(path: Path, stands: Any, pid: Any) -> None:
    with file_lock(path):
        pid.value = _start(time.sleep, 60).pid
        stands.set()
        time.sleep(60)


def test_a_child_that_outlives_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """Workers of a pool wait for ever for a parent that was killed."""
    stands, pid = _fork.Event(), _fork.Value("i", 0)
    holder = _start(_with_orphan, tmp_path / "data", stands, pid)
    assert stands.wait(30)
    _kill(holder)
    try:
        process = _start(_convert, tmp_path / "data")
        process.join(20)
        assert process.exitcode == 0
        assert (tmp_path / "data").is_dir()
    finally:
        os.kill(pid.value, signal.SIGKILL)


def _append(path: Path, times: int) -> None:
    for _ in range(times):
        with file_lock(path), file_lock(path):  # a holder may ask again
            count = int(path.read_text())
            time.sleep(0.002)
            path.write_text(str(count + 1))


def test_only_one_process_is_inside_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    processes = [_start(_append, path, 10) for _ in range(3)]
    for process in processes:
        process.join(60)
    assert path.read_text() == "30"


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("file", "folder"):
        with pytest.raises(UserError, match=f"Expected .*{name} to be new or an empty folder"):
            _convert(tmp_path / name)
    _convert(tmp_path / "empty")
    assert _names(tmp_path / "empty") == ["inner"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "a").read_text() == "mine"


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "draft").write_text("new")
    commit(tmp_path / "draft", tmp_path / "a")
    assert (_names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "new")


def _fail_half_way(path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text("tw")
        raise RuntimeError


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    with pytest.raises(RuntimeError):
        _fail_half_way(path)
    assert path.read_text() == "one"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_all_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def renamed(draft: Path, path: Path) -> Path:
        done.append(f"rename to {path.name}")
        return replace(draft, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    with atomic_write(tmp_path / "file") as partial:
        partial.write_text("all of it")
    assert done == ["sync .file.partial", "rename to file", f"sync {tmp_path.name}"]
