"""What a killed writer leaves is made good, and what is no cache, or no whole one, is refused by its name."""

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from helpers.teacher_caches import pack

from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter
from ibkd_mm.offline.instance_codec import InstanceCodec

_fork = get_context("fork")


def _read_all(path: Path) -> None:
    with CacheReader(path) as reader:
        found = [reader.find(key) for key in reader.keys()]  # noqa: SIM118
    assert found


def refused(path: Path) -> str:
    """Say how a file is refused where it is opened, or where all of it is read."""
    with pytest.raises(UserError) as error:
        _read_all(path)
    assert str(path) in str(error.value)
    return str(error.value)


def killed(write: Callable[[], None]) -> None:
    """Let another process do something and be killed before it is done."""

    def run() -> None:
        write()
        os.kill(os.getpid(), signal.SIGKILL)

    process = _fork.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def half_written(path: Path, entry: CachedInstances) -> None:
    base = sqlite3.connect(path)
    base.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the transaction ends
    rows = [(str(number), 1, pack(entry)) for number in range(100, 400)]
    base.executemany("INSERT INTO pictures (key, instances, entry) VALUES (?, ?, ?)", rows)
    assert Path(f"{path}-journal").stat().st_size > 0


@pytest.mark.parametrize("opened", ["reader", "writer"])
def test_what_a_killed_writer_left_half_done_is_undone_by_whoever_opens_the_file(
    filled: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances], opened: str
) -> None:
    size = filled.stat().st_size
    killed(lambda: half_written(filled, entry(0)))
    assert filled.stat().st_size > size
    if opened == "writer":
        CacheWriter(filled, identity).close()
    with CacheReader(filled) as reader:
        assert reader.keys() == [str(number) for number in range(40)]
    assert not Path(f"{filled}-journal").exists()


@pytest.mark.parametrize("statement", range(1, 6))
def test_a_file_that_was_only_begun_is_begun_anew(
    path: Path, identity: dict[str, Any], statement: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of the statements that begin a file, or before they are committed."""

    class Killing(sqlite3.Connection):
        left = statement

        def execute(self, sql: str, *given: Any) -> Any:  # type: ignore[override]
            self.left -= not sql.startswith(("SELECT", "BEGIN"))
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(sql, *given)

        executemany = execute  # type: ignore[assignment]

        def __exit__(self, *error: Any) -> Any:
            return self.execute("COMMIT")

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Killing))
        killed(lambda: CacheWriter(path, identity).close())
    CacheWriter(path, identity).close()
    with CacheReader(path) as reader:
        assert reader.identity == identity


def test_a_part_that_was_not_even_begun_is_passed_over(filled: Path, identity: dict[str, Any]) -> None:
    bare = filled.with_name("bare")
    bare.touch()
    with CacheWriter(filled, identity) as writer:
        writer.merge([bare])
        bare.write_text("no cache at all")
        with pytest.raises(UserError, match=f"{bare} is a damaged teacher's cache"):
            writer.merge([bare])


def test_there_is_none(tmp_path: Path) -> None:
    assert "There is no teacher's cache" in refused(tmp_path / "none.sqlite")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE pictures (id INTEGER PRIMARY KEY, key TEXT, entry BLOB)")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (foreign, "found another database"),
        (lambda path: path.write_text("a plain text " * 400), "file is not a database"),
        (lambda path: path.write_bytes(b""), "found another database"),
    ],
)
def test_what_is_no_cache_is_refused_and_left_alone(
    tmp_path: Path, identity: dict[str, Any], write: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "other.sqlite"
    write(path)
    before = path.read_bytes()
    assert said in refused(path)
    if before:  # what is empty may be begun
        with pytest.raises(UserError, match=said):
            CacheWriter(path, identity)
    assert path.read_bytes() == before


@pytest.mark.parametrize("left", [100, 4096, 5000, -4096, -2048, -1])
def test_what_is_truncated_is_refused(filled: Path, left: int) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data[:left])
    assert "Remove" in refused(filled)
    if left in (5000, -2048, -1):  # a part of a page, without which keys might only seem not to be there
        with pytest.raises(UserError, match="is a damaged teacher's cache"):
            CacheReader(filled)


def test_an_entry_that_is_damaged_or_newer_is_refused(
    filled: Path, entry: Callable[..., CachedInstances]
) -> None:
    data = pack(entry(3))
    for value, said in (
        (data[:-9], "cannot be read"),
        (data[:30] + bytes([data[30] ^ 4]) + data[31:], "cannot be read"),
        (bytes([9]) + data[1:], f"it is of version 9, and this code reads {InstanceCodec.version}"),
        ("text", "cannot be read"),
    ):
        with closing(sqlite3.connect(filled)) as base, base:
            base.execute("UPDATE pictures SET entry = ? WHERE key = '3'", (value,))
        assert f"The entry with key 3 of {filled} cannot be read" in refused(filled)
        assert said in refused(filled)


def test_pages_that_are_overwritten_are_refused(filled: Path) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data[: -3 * 4096] + b"\xaa" * 4096 + data[-2 * 4096 :])
    assert "Remove" in refused(filled)
