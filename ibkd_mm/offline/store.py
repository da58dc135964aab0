"""The file of a cache: SQLite, with one row for each image and the identity of the cache."""

import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.offline.identity import codec_of, upgraded

_LOCK_TIMEOUT = 60.0  # seconds to wait for another process that writes
_APPLICATION_ID = 0x49424B44  # "IBKD" in the header tells our files from other SQLite databases
# the names of tables and columns are part of the file format
_TABLES = (
    "CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pictures (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, "
    "instances INTEGER NOT NULL, entry BLOB NOT NULL)",
)


class CacheWriter(AbstractContextManager["CacheWriter"]):
    """Writes entries in batches: a batch is written completely or not at all, whenever the process is killed.

    An existing file is continued if it has the same identity, whose `codec` packs the entries. Threads may
    take turns.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT, check_same_thread=False)
        try:
            if _is_empty(self._connection):
                self._create(upgraded(identity))
            with CacheReader(path) as existing:
                check_same(path, existing.identity, upgraded(identity))
                self.codec = existing.codec
        except BaseException:
            self._connection.close()
            raise

    def _create(self, identity: Mapping[str, Any]) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            for table in _TABLES:
                self._connection.execute(table)
            rows = [(name, json.dumps(value, sort_keys=True)) for name, value in identity.items()]
            self._connection.executemany("INSERT OR IGNORE INTO identity VALUES (?, ?)", rows)

    def write(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Write entries by the keys of their images; an existing one is replaced."""
        rows = [(key, self.codec.count(entry), self.codec.encode(entry)) for key, entry in entries]
        with self._connection:
            self._connection.executemany(
                "INSERT INTO pictures (key, instances, entry) VALUES (?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET instances = excluded.instances, entry = excluded.entry",
                rows,
            )

    def merge(self, others: Iterable[Path]) -> None:
        """Add the entries of other files, which may be empty if their processes were killed."""
        for other in others:
            with closing(sqlite3.connect(other, timeout=_LOCK_TIMEOUT)) as base:
                if _is_empty(base):
                    continue
            with CacheReader(self.path) as own, CacheReader(other) as reader:
                check_same(other, reader.identity, own.identity)
            self._connection.execute("ATTACH DATABASE ? AS other", (str(other),))
            with self._connection:
                self._connection.execute(
                    "INSERT OR IGNORE INTO pictures (key, instances, entry) "
                    "SELECT key, instances, entry FROM other.pictures"
                )
            self._connection.execute("DETACH DATABASE other")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class CacheReader(AbstractContextManager["CacheReader"]):
    """Reads entries; copies in other processes open the file for themselves."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._opened: tuple[int, sqlite3.Connection] | None = None
        self.identity = upgraded(self._read_identity())
        self.codec = codec_of(self.identity)

    def _read_identity(self) -> dict[str, Any]:
        if not self.path.is_file():
            raise UserError(f"There is no teacher's cache {self.path}. Write it: ibkd cache CONFIG.")
        try:
            mark = self._connection.execute("PRAGMA application_id").fetchone()[0]
            if mark == _APPLICATION_ID:
                rows = self._connection.execute("SELECT name, value FROM identity").fetchall()
                self._connection.execute("SELECT count(*) FROM pictures WHERE id = 0").fetchone()
                pages, size = (
                    self._connection.execute(f"PRAGMA page_{it}").fetchone()[0] for it in ("count", "size")
                )
                if self.path.stat().st_size < pages * size:  # SQLite itself detects missing pages alone
                    raise ValueError("it is truncated")
                return {name: json.loads(value) for name, value in rows}
        except (sqlite3.DatabaseError, ValueError) as error:
            raise UserError(
                f"{self.path} is a damaged teacher's cache ({error}). Remove it and run ibkd cache again."
            ) from error
        raise UserError(f"Expected a teacher's cache, found another database: {self.path}.")

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this process; a connection must not be used after a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            # not mode=ro: to open the file may mean to roll back what a killed writer left
            file = f"{self.path.resolve().as_uri()}?mode=rw"
            base = sqlite3.connect(file, uri=True, timeout=_LOCK_TIMEOUT, check_same_thread=False)
            base.execute("PRAGMA query_only = 1")
            self._opened = os.getpid(), base
        return self._opened[1]

    def find(self, key: str) -> tuple[int, Any] | None:
        """Return the row number and the entry of an image, or None if it is not in the file."""
        return self._select("key", key)

    def by_number(self, number: int) -> Any:
        """Return the entry of a row number from `find`."""
        found = self._select("id", number)
        if found is None:
            raise UserError(f"{self.path} has no entry {number}: it was changed after it had been opened.")
        return found[1]

    def _select(self, column: str, value: str | int) -> tuple[int, Any] | None:
        query = f"SELECT id, entry FROM pictures WHERE {column} = ?"
        with self._reading(f"The entry with {column} {value}"):
            row = self._connection.execute(query, (value,)).fetchone()
            return None if row is None else (row[0], self.codec.decode(row[1]))

    def keys(self) -> list[str]:
        """Return the keys of all images, in the order in which they were written."""
        with self._reading("The list of images"):
            return [key for (key,) in self._connection.execute("SELECT key FROM pictures ORDER BY id")]

    def counts(self) -> tuple[int, int]:
        """Return the number of images and of predictions."""
        query = "SELECT count(*), total(instances) FROM pictures"
        with self._reading("The list of images"):
            images, predictions = self._connection.execute(query).fetchone()
        return images, int(predictions)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Name the file in errors about damaged data."""
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
        """Close the file."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_empty(base: sqlite3.Connection) -> bool:
    """Ask SQLite, which first rolls back what a killed writer left."""
    try:
        return not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError:
        return False  # the reader reports it


def check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a cache with another identity, and list the differences."""
    names = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if names:
        lines = "\n".join(
            f"  {name}: the cache has {found.get(name)}, expected {wanted.get(name)}" for name in names
        )
        raise UserError(
            f"The teacher's cache {path} does not fit:\n{lines}\n"
            "Remove it to write it anew, or give another path."
        )
