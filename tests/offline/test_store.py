"""A cache's file: what is written is found, a batch at a time, by several processes at once."""

import os
import pickle
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from helpers.teacher_caches import pack
from torch.utils.data import DataLoader, Dataset

from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter, InstanceCodec

_fork = get_context("fork")


def test_what_is_written_is_found_by_key_and_by_number(
    filled: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances], same: Callable[..., bool]
) -> None:
    with CacheReader(filled) as reader:
        assert reader.identity == identity
        assert reader.keys() == [str(number) for number in range(40)]
        assert reader.counts() == (40, 160)
        found = reader.find("7")
        assert found is not None
        assert same(found[1], entry(7))
        assert same(reader.by_number(found[0]), entry(7))
        assert reader.find("40") is None
        with pytest.raises(UserError, match="has no entry 1000: it was changed"):
            reader.by_number(1000)


def test_what_is_replaced_is_not_doubled_and_keeps_its_number(
    filled: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances], same: Callable[..., bool]
) -> None:
    with CacheReader(filled) as reader:
        before = reader.find("7")
        with CacheWriter(filled, identity) as writer:
            writer.write([("7", entry(100, count=1)), ("new", entry(101))])
        after = reader.find("7")
        assert before is not None
        assert after is not None
        assert before[0] == after[0]
        assert same(after[1], entry(100, count=1))
        assert reader.counts() == (41, 161)


def test_a_batch_that_fails_leaves_nothing(
    filled: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances]
) -> None:
    def batch() -> Iterator[tuple[Any, CachedInstances]]:
        yield "a", entry(1)
        yield None, entry(2)  # not to be stored

    with CacheWriter(filled, identity) as writer:
        with pytest.raises(sqlite3.IntegrityError):
            writer.write(batch())
        writer.write([("b", entry(3))])
    with CacheReader(filled) as reader:
        assert reader.keys()[40:] == ["b"]


def test_parts_are_merged_once_each(
    path: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances], same: Callable[..., bool]
) -> None:
    parts = [path.with_name(f"part{index}") for index in range(2)]
    for part, numbers in zip(parts, ([0, 2], [1, 2, 3]), strict=True):
        with CacheWriter(part, identity) as writer:
            writer.write((str(number), entry(number)) for number in numbers)
    with CacheWriter(path, identity) as writer:
        writer.merge(parts)
        writer.merge(parts)
    with CacheReader(path) as reader:
        assert sorted(reader.keys()) == ["0", "1", "2", "3"]
        assert all(same(reader.find(str(number))[1], entry(number)) for number in range(4))  # type: ignore[index]
    said = r"part0 does not fit:\n  weights: the cache has 2, expected 9"
    other = CacheWriter(path.with_name("other"), {**identity, "weights": "9"})
    with other, pytest.raises(UserError, match=said):
        other.merge(parts)


def test_another_identity_is_refused_with_what_differs(filled: Path, identity: dict[str, Any]) -> None:
    wanted = {**identity, "weights": "5", "settings": {"topk_classes": 3}}
    with pytest.raises(UserError) as error:
        CacheWriter(filled, wanted)
    said = str(error.value)
    assert f"The teacher's cache {filled} does not fit" in said
    assert "weights: the cache has 2, expected 5" in said
    assert "settings: the cache has {'topk_classes': 5}, expected {'topk_classes': 3}" in said
    assert "version" not in said
    assert "teacher:" not in said


class Reads(Dataset[str]):
    """Reads entries in the processes of a loader."""

    def __init__(self, reader: CacheReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> str:
        found = self.reader.find(str(index))
        assert found is not None
        return f"{os.getpid()} {index} {found[1].packed_masks[0][1].hex()}"


def test_workers_of_a_loader_read_for_themselves(filled: Path, entry: Callable[..., CachedInstances]) -> None:
    with CacheReader(filled) as reader:
        reader.find("0")  # opened before they are started
        data = pickle.loads(pickle.dumps(Reads(reader)))
        data.reader.find("1")
        loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=_fork)
        found = [line.split() for line in loader]
        assert reader.find("39") is not None
    assert [masks for _, _, masks in found] == [entry(n).packed_masks[0][1].hex() for n in range(40)]
    assert len({process for process, _, _ in found} - {str(os.getpid())}) == 2


def test_after_a_fork_each_process_has_a_connection_of_its_own(filled: Path) -> None:
    with CacheReader(filled) as reader:
        own = reader._connection
        receive, send = _fork.Pipe(duplex=False)
        process = _fork.Process(
            target=lambda: send.send((reader._connection is own, reader.find("3") is not None))
        )
        process.start()
        assert receive.recv() == (False, True)
        process.join()
        assert reader._connection is own
        assert reader.find("3") is not None


def test_several_read_while_one_writes(
    filled: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances], same: Callable[..., bool]
) -> None:
    def read(reader: CacheReader) -> None:
        last = 40
        while last < 90:
            found = [reader.find(str(number % 40)) for number in range(last, last + 5)]
            assert all(each is not None and len(each[1]) == 4 for each in found)
            now = reader.counts()[0]
            assert now >= last
            assert now % 5 == 0  # whole batches
            last = now

    with CacheReader(filled) as reader:
        readers = [_fork.Process(target=read, args=(reader,)) for _ in range(3)]
        for one in readers:
            one.start()
        with CacheWriter(filled, identity) as writer:
            for batch in range(8, 18):
                writer.write((str(number), entry(number)) for number in range(5 * batch, 5 * batch + 5))
        for one in readers:
            one.join(60)
        assert [one.exitcode for one in readers] == [0, 0, 0]
        assert same(reader.find("89")[1], entry(89))  # type: ignore[index]


def test_reading_one_of_20000_entries_reads_no_other(
    path: Path,
    identity: dict[str, Any],
    entry: Callable[..., CachedInstances],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pack(entry(0, count=1, size=(16, 16)))
    monkeypatch.setattr(InstanceCodec, "encode", lambda *_: data)
    with CacheWriter(path, identity) as writer:
        writer.write((str(number), [None]) for number in range(20_000))  # type: ignore[misc]
    assert path.stat().st_size > 2_000_000
    tracemalloc.start()
    try:
        with CacheReader(path) as reader:
            for number in range(0, 20_000, 20):
                assert reader.find(str(number)) is not None
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
