"""A writer of a teacher's cache that is killed at any moment and started again loses and doubles nothing."""

import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.teacher_caches import pack

import ibkd_mm  # noqa: F401
from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter
from ibkd_mm.offline import build_cache as making
from ibkd_mm.offline.build_cache import build_cache

PICTURES, BATCH = 900, 4
KILLS = int(os.environ.get("IBKD_KILLS", "10"))
IDENTITY = {"teacher": "T", "version": 1}
_fork = get_context("fork")


def seen(key: int) -> CachedInstances:
    """Make what a teacher would see in a picture."""
    rng = np.random.default_rng(key)
    count = key % 5
    masks = np.zeros((count, 32, 32), np.uint8)
    masks[:, : 4 + key % 20, 3 : 5 + key % 7] = 1
    odds = rng.dirichlet([1.0] * 4, count).astype(np.float32).reshape(count, 4)
    scores = rng.uniform(0, 1, count).astype(np.float32)
    return CachedInstances.of(rng.uniform(0, 32, (count, 4)).astype(np.float32), scores, odds, masks, 3)


class Sight:
    """Stands for what was seen in a picture."""

    def __init__(self, key: int) -> None:
        self.key, self.entry = str(key), lambda: seen(key)


class Teacher:
    """Stands for a teacher, a fast one."""

    def __call__(self, batch: Any) -> list[Sight]:
        time.sleep(0.001)
        return [Sight(key) for key in batch]


class Keys:
    keys = [str(key) for key in range(PICTURES)]
    sizes = [(32, 32)] * PICTURES

    def __len__(self) -> int:
        return PICTURES

    def __getitem__(self, index: int) -> int:
        return index


def steps(path: Path) -> Iterator[tuple[int, int]]:
    return build_cache(Teacher(), Keys(), path, IDENTITY, batch_size=BATCH, workers=0)  # type: ignore[arg-type]


def write(path: Path) -> tuple[Any, Any]:
    """Start to write in another process, and give what it sets when it has written something."""
    writes = _fork.Event()

    def run() -> None:
        for done, (count, _) in enumerate(steps(path)):
            if done and count:
                writes.set()

    process = _fork.Process(target=run)
    process.start()
    return process, writes


@pytest.mark.e2e
def test_killed_at_random_moments_and_restarted_it_neither_loses_nor_doubles_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "pseudo_collate", list)
    monkeypatch.setattr(making, "predict", lambda teacher, batch: teacher(batch))
    path, moments, before = tmp_path / "a.sqlite", random.Random(0), list[str]()
    for kill in range(KILLS):
        process, writes = write(path)
        if kill % 2:  # the others are killed while they begin
            assert writes.wait(60)
        time.sleep(moments.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"it was done before kill {kill}"
        CacheWriter(path, IDENTITY).close()
        with CacheReader(path) as reader:
            now = reader.keys()
        assert len(now) == len(set(now)) == BATCH * (len(now) // BATCH)  # whole batches
        assert now[: len(before)] == before
        before = now
    assert 0 < len(before) < PICTURES
    assert list(steps(path))[-1] == (PICTURES, PICTURES)
    with CacheReader(path) as reader:
        assert reader.keys() == Keys.keys
        assert reader.counts() == (PICTURES, sum(key % 5 for key in range(PICTURES)))
        for key in Keys.keys:
            found = reader.find(key)
            assert found is not None
            assert pack(found[1]) == pack(seen(int(key)))
