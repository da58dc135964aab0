"""The file of a cache: SQLite, one row a picture, and what it was made with."""

import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.offline.instance_codec import CachedEntry, mask_thresholds_of, pack, unpack

_PATIENCE = 60.0
"""Seconds to wait for another process that writes."""
_MARK = 0x49424B44  # "IBKD", so that another program's database is told by its header
_TABLES = (
    "CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pictures (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, "
    "instances INTEGER NOT NULL, entry BLOB NOT NULL)",
)


class CacheWriter:
    """Writes entries, a batch at a time: a batch is in the file whole or not at all, whatever is killed.

    Opening a file that is there goes on with it, if it was made with the same. Threads may write in turns.

    Args:
        path: of the file.
        identity: what the entries depend on, by name.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
        try:
            if _is_empty(self._base):
                self._begin(identity)
            with CacheReader(path) as there:
                check_same(path, there.identity, identity)
        except BaseException:
            self._base.close()
            raise

    def _begin(self, identity: Mapping[str, Any]) -> None:
        """Make the tables, and write what the entries depend on: all of it, or nothing."""
        with self._base:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.execute(f"PRAGMA application_id = {_MARK}")
            for table in _TABLES:
                self._base.execute(table)
            rows = [(name, json.dumps(value, sort_keys=True)) for name, value in identity.items()]
            self._base.executemany("INSERT OR IGNORE INTO identity VALUES (?, ?)", rows)

    def write(self, entries: Iterable[tuple[str, CachedEntry]]) -> None:
        """Write entries by their pictures' keys; one that is there already is replaced."""
        rows = [(key, len(entry), pack(entry)) for key, entry in entries]
        with self._base:
            self._base.executemany(
                "INSERT INTO pictures (key, instances, entry) VALUES (?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET instances = excluded.instances, entry = excluded.entry",
                rows,
            )

    def merge(self, others: Iterable[Path]) -> None:
        """Take in what other processes wrote; one may have been killed before its first word."""
        for other in others:
            with closing(sqlite3.connect(other, timeout=_PATIENCE)) as base:
                if _is_empty(base):
                    continue
            with CacheReader(self.path) as own, CacheReader(other) as reader:
                check_same(other, reader.identity, own.identity)
            self._base.execute("ATTACH DATABASE ? AS other", (str(other),))
            with self._base:
                self._base.execute(
                    "INSERT OR IGNORE INTO pictures (key, instances, entry) "
                    "SELECT key, instances, entry FROM other.pictures"
                )
            self._base.execute("DETACH DATABASE other")

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class CacheReader:
    """Reads entries; may be copied to other processes, each of which opens the file for itself.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._opened: tuple[int, sqlite3.Connection] | None = None
        self.identity: dict[str, Any] = self._read_identity()
        self.levels = mask_thresholds_of(self.identity.get("settings", {}))

    def _read_identity(self) -> dict[str, Any]:
        if not self.path.is_file():
            raise UserError(f"There is no teacher's cache {self.path}. Write it: ibkd cache CONFIG.")
        try:
            mark = self._base.execute("PRAGMA application_id").fetchone()[0]
            if mark == _MARK:
                rows = self._base.execute("SELECT name, value FROM identity").fetchall()
                self._base.execute("SELECT count(*) FROM pictures WHERE id = 0").fetchone()
                self._check_all_pages()
                return {name: json.loads(value) for name, value in rows}
        except (sqlite3.DatabaseError, ValueError) as error:
            raise UserError(
                f"{self.path} is no whole teacher's cache ({error}). Remove it and write it anew: ibkd cache."
            ) from error
        raise UserError(f"Expected a teacher's cache, found another database: {self.path}.")

    def _check_all_pages(self) -> None:
        """Notice that a part of the last page is lacking; what lacks whole ones SQLite notices itself."""
        pages, size = (self._base.execute(f"PRAGMA page_{it}").fetchone()[0] for it in ("count", "size"))
        if self.path.stat().st_size < pages * size:
            raise ValueError("its end is lacking")

    @property
    def _base(self) -> sqlite3.Connection:
        """The connection of this process: one must not go through a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            # what a killed writer left half done is undone by whoever opens the file next, unless mode=ro
            file = f"{self.path.resolve().as_uri()}?mode=rw"
            base = sqlite3.connect(file, uri=True, timeout=_PATIENCE, check_same_thread=False)
            base.execute("PRAGMA query_only = 1")
            self._opened = os.getpid(), base
        return self._opened[1]

    def find(self, key: str) -> tuple[int, CachedEntry] | None:
        """Read a picture's entry and its number in the file; None where it has none."""
        return self._one("key", key)

    def by_number(self, number: int) -> CachedEntry:
        """Read the entry with a number that `find` gave."""
        found = self._one("id", number)
        if found is None:
            raise UserError(f"{self.path} has no entry {number}: it was changed after it had been opened.")
        return found[1]

    def _one(self, column: str, value: str | int) -> tuple[int, CachedEntry] | None:
        question = f"SELECT id, entry FROM pictures WHERE {column} = ?"
        with self._reading(f"The entry with {column} {value}"):
            row = self._base.execute(question, (value,)).fetchone()
            return None if row is None else (row[0], unpack(row[1], self.levels))

    def keys(self) -> list[str]:
        """Name the pictures, in the order in which they were written."""
        with self._reading("The list of pictures"):
            return [key for (key,) in self._base.execute("SELECT key FROM pictures ORDER BY id")]

    def counts(self) -> tuple[int, int]:
        """Count pictures and instances."""
        question = "SELECT count(*), total(instances) FROM pictures"
        with self._reading("The list of pictures"):
            pictures, instances = self._base.execute(question).fetchone()
        return pictures, int(instances)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Name the file where it turns out to be damaged."""
        try:
            yield
        except (ValueError, TypeError, sqlite3.DatabaseError, zlib.error, struct.error) as error:
            raise UserError(
                f"{what} of {self.path} cannot be read ({error}). Remove the file and write it anew: "
                "ibkd cache."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def close(self) -> None:
        """Let go of the file."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def __enter__(self) -> "CacheReader":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _is_empty(base: sqlite3.Connection) -> bool:
    """Ask SQLite, which first undoes what a killed writer left half done."""
    try:
        return not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError:
        return False  # the reader says what it is


def check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a cache that was made with something else, and say with what."""
    names = sorted({*found, *wanted})
    other = [name for name in names if found.get(name) != wanted.get(name)]
    if other:
        lines = "\n".join(
            f"  {name}: the cache has {found.get(name)}, wanted {wanted.get(name)}" for name in other
        )
        raise UserError(
            f"The teacher's cache {path} does not fit:\n{lines}\n"
            "Remove it to write it anew, or give another path."
        )
