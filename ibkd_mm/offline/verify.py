"""A look again at what a cache holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate

from ibkd_mm.offline.build_cache import InstancePredictor
from ibkd_mm.offline.images import UnreadableImage
from ibkd_mm.offline.instance_codec import CachedEntry
from ibkd_mm.offline.store import CacheReader, check_same

_SCORE, _SHARE, _PIXELS = 2e-3, 0.01, 4
"""How far apart scores may be; how many of a mask's pixels may differ, as a share and at least."""


@dataclass(frozen=True)
class Verified:
    """What came of it."""

    pictures: int
    other: list[str]

    @property
    def same(self) -> bool:
        """Whether the teacher saw the same in each."""
        return not self.other

    def __str__(self) -> str:
        if self.same:
            return f"verified: {self.pictures} pictures were run again, and the teacher sees the same"
        return f"NOT the same in {len(self.other)} of {self.pictures} pictures: {', '.join(self.other[:5])}"


def verify(
    run: InstancePredictor, pictures: Any, path: Path, identity: dict[str, Any], count: int
) -> Verified:
    """Run a sample of the pictures again, spread evenly over all, and compare."""
    with CacheReader(path) as reader:
        check_same(path, reader.identity, identity)
        there = set(reader.keys())
        written = [index for index, key in enumerate(pictures.keys) if key in there]
        chosen = written[:: max(len(written) // max(count, 1), 1)][:count]
        least = getattr(run.connector, "score_thr", 0.0)
        other = [pictures.keys[index] for index in chosen if not _same(run, reader, pictures, index, least)]
    return Verified(len(chosen), other)


def _same(run: InstancePredictor, reader: CacheReader, pictures: Any, index: int, least: float) -> bool:
    sample, found = pictures[index], reader.find(pictures.keys[index])
    if found is None or isinstance(sample, UnreadableImage):
        return False
    ((_, entry),) = run.entries(pseudo_collate([sample]))
    return _alike(found[1], entry, least)


def _alike(cached: CachedEntry, seen: CachedEntry, least: float) -> bool:
    """Find each instance in the other entry, whatever stands at the score where instances begin.

    A batch of another size changes the last digits, and so the scores a little, and some pixels on edges.
    """
    if (cached.height, cached.width, cached.classes) != (seen.height, seen.width, seen.classes):
        return False
    pairs = (cached, seen)
    return all(
        any(_matches(one, row, other, candidate) for candidate in range(len(other)))
        for one, other in (pairs, pairs[::-1])
        for row in np.flatnonzero(one.scores > least + _SCORE)
    )


def _matches(one: CachedEntry, row: int, other: CachedEntry, candidate: int) -> bool:
    """Say whether an instance of one entry is one of the other's."""
    apart = np.abs(one.probabilities[row] - other.probabilities[candidate]).max()
    if max(abs(one.scores[row] - other.scores[candidate]), apart) > _SCORE:
        return False
    (mask,), (found,) = one.restored([one.first + row]), other.restored([other.first + candidate])
    return int((mask ^ found).sum()) <= max(_PIXELS, _SHARE * int((mask | found).sum()))
