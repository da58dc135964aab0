"""A look again notices an entry that is not what the teacher sees."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import pseudo_collate

from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedEntry, CacheWriter
from ibkd_mm.offline.build_cache import InstancePredictor
from ibkd_mm.offline.images import FolderImages
from ibkd_mm.offline.verify import Verified, verify


@pytest.fixture(scope="module")
def entries(run: InstancePredictor, folder: FolderImages) -> dict[str, CachedEntry]:
    return dict(run.entries(pseudo_collate([folder[index] for index in range(4)])))


@pytest.fixture
def check(
    run: InstancePredictor,
    folder: FolderImages,
    entries: dict[str, CachedEntry],
    identity: dict[str, Any],
    tmp_path: Path,
) -> Callable[..., Verified]:
    """Write the entries, some of them changed, and look again."""

    def check(count: int = 4, **changed: CachedEntry) -> Verified:
        path = tmp_path / "a.sqlite"
        with CacheWriter(path, identity) as writer:
            writer.write({**entries, **changed}.items())
        return verify(run, folder, path, identity, count)

    return check


def test_what_was_written_is_seen_again(check: Callable[..., Verified]) -> None:
    found = check()
    assert found.same
    assert str(found) == "verified: 4 pictures were run again, and the teacher sees the same"
    assert [check(count).pictures for count in (1, 2, 3, 9)] == [1, 2, 3, 4]


def _without_the_last(entry: CachedEntry) -> CachedEntry:
    rows = slice(len(entry) - 1)
    columns = {name: getattr(entry, name)[rows] for name in ("boxes", "scores", "top_classes", "top_shares")}
    return replace(entry, **columns, packed_masks=entry.packed_masks[rows])


def _other_mask(entry: CachedEntry) -> CachedEntry:
    masks = entry.masks.copy()
    masks[0] = 1 - masks[0]
    return replace(
        entry,
        packed_masks=CachedEntry.of(entry.boxes, entry.scores, entry.probabilities, masks, 5).packed_masks,
    )


def _with_an_edge_moved(pixels: int) -> Callable[[CachedEntry], CachedEntry]:
    def change(entry: CachedEntry) -> CachedEntry:
        masks = entry.masks.copy()
        size = masks.sum((1, 2))
        smallest = int(size.argmin())
        assert size[smallest] < 100
        masks[smallest].reshape(-1)[np.flatnonzero(masks[smallest] == 0)[:pixels]] = 1
        return CachedEntry.of(entry.boxes, entry.scores, entry.probabilities, masks, 5)

    return change


def test_what_rounding_changes_is_forgiven(
    check: Callable[..., Verified], entries: dict[str, CachedEntry], run: InstancePredictor
) -> None:
    """Pixels on the edge of a small mask, and an instance that is hardly sure enough to be one."""
    name, entry = next(
        (name, entry) for name, entry in entries.items() if entry.masks.sum((1, 2)).min() < 100
    )
    assert check(**{name: _with_an_edge_moved(3)(entry)}).same
    assert not check(**{name: _with_an_edge_moved(6)(entry)}).same
    assert not check(**{name: _without_the_last(entry)}).same
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.connector, "score_thr", float(entry.scores[-1]) - 1e-4)
        assert check(**{name: _without_the_last(entry)}).same


@pytest.mark.parametrize(
    "change",
    [
        _without_the_last,
        _other_mask,
        lambda entry: replace(entry, scores=np.clip(entry.scores + 0.01, 0, 1)),
        lambda entry: replace(entry, top_classes=entry.top_classes[:, ::-1]),
        lambda entry: replace(entry, height=entry.width, width=entry.height),
        lambda entry: replace(entry, height=entry.height + 1, packed_masks=((0, b""),) * len(entry)),
    ],
)
def test_a_changed_entry_is_noticed(
    check: Callable[..., Verified],
    entries: dict[str, CachedEntry],
    change: Callable[[CachedEntry], CachedEntry],
) -> None:
    found = check(**{"a.png": change(entries["a.png"])})
    assert found.other == ["a.png"]
    assert not found.same
    assert str(found) == "NOT the same in 1 of 4 pictures: a.png"


def test_pictures_that_are_not_written_yet_are_not_asked_for(
    run: InstancePredictor,
    folder: FolderImages,
    entries: dict[str, CachedEntry],
    identity: dict[str, Any],
    tmp_path: Path,
) -> None:
    with CacheWriter(tmp_path / "a.sqlite", identity) as writer:
        writer.write([("e.png", entries["e.png"])])
    assert verify(run, folder, tmp_path / "a.sqlite", identity, 4) == Verified(1, [])
    with pytest.raises(UserError, match="pictures: the cache has 3, wanted 4"):
        verify(run, folder, tmp_path / "a.sqlite", {**identity, "pictures": "4"}, 4)
