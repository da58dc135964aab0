"""A look again at what a cache holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate

from ibkd_mm.distill.cache.entry import CachedEntry
from ibkd_mm.distill.cache.making import TeacherRun
from ibkd_mm.distill.cache.store import CacheReader, want_same

_SCORE, _SHARE = 2e-3, 0.99


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


def verify(run: TeacherRun, pictures: Any, path: Path, identity: dict[str, Any], count: int) -> Verified:
    """Run a sample of the pictures again, spread evenly over all, and compare."""
    with CacheReader(path) as reader:
        want_same(path, reader.identity, identity)
        there = set(reader.keys())
        written = [index for index, key in enumerate(pictures.keys) if key in there]
        chosen = written[:: max(len(written) // max(count, 1), 1)][:count]
        other = []
        for index in chosen:
            (key, entry), *_ = run.entries(pseudo_collate([pictures[index]]))
            found = reader.find(key)
            if found is None or not _alike(found[1], entry):
                other.append(key)
    return Verified(len(chosen), other)


def _alike(cached: CachedEntry, seen: CachedEntry) -> bool:
    """Compare instances one by one; a batch of another size changes the last digits, and so a few pixels."""
    sizes = [(len(each), each.height, each.width, each.classes) for each in (cached, seen)]
    if sizes[0] != sizes[1]:
        return False
    if not len(cached):
        return True
    both = (cached.masks & seen.masks).sum((1, 2))
    either = (cached.masks | seen.masks).sum((1, 2))
    pairs = ((cached.scores, seen.scores), (cached.probabilities, seen.probabilities))
    near = all(np.abs(one - other).max() < _SCORE for one, other in pairs)
    return bool(near and (both >= _SHARE * either).all())
