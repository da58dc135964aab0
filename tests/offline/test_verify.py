"""A look again notices an entry that is not what the teacher sees."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.teacher_caches import entries_of
from mmengine.dataset import pseudo_collate

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.teacher_predictions import InstancePredictor
from ibkd_mm.offline import CachedInstances, CacheWriter
from ibkd_mm.offline.images import FolderImages
from ibkd_mm.offline.verify import Verified, verify


@pytest.fixture(scope="module")
def entries(run: InstancePredictor, folder: FolderImages) -> dict[str, CachedInstances]:
    return dict(entries_of(run, pseudo_collate([folder[index] for index in range(4)])))


@pytest.fixture
def check(
    run: InstancePredictor,
    folder: FolderImages,
    entries: dict[str, CachedInstances],
    identity: dict[str, Any],
    tmp_path: Path,
) -> Callable[..., Verified]:
    """Write the entries, some of them changed, and look again."""

    def check(count: int = 4, score_thr: float = 0.0, **changed: CachedInstances) -> Verified:
        path = tmp_path / f"{score_thr}.sqlite"
        own = {**identity, "settings": {"instances": {"score_thr": score_thr}}}
        with CacheWriter(path, own) as writer:
            writer.write({**entries, **changed}.items())
        return verify(run, folder, path, own, count)

    return check


def test_what_was_written_is_seen_again(check: Callable[..., Verified]) -> None:
    found = check()
    assert found.same
    assert [check(count).images for count in (1, 2, 3, 9)] == [1, 2, 3, 4]


def _without_the_last(entry: CachedInstances) -> CachedInstances:
    rows = slice(len(entry) - 1)
    columns = {
        name: getattr(entry, name)[rows] for name in ("boxes", "scores", "top_classes", "top_probabilities")
    }
    return replace(entry, **columns, packed_masks=entry.packed_masks[rows])


def _other_mask(entry: CachedInstances) -> CachedInstances:
    masks = entry.masks.copy()
    masks[0] = 1 - masks[0]
    return replace(
        entry,
        packed_masks=CachedInstances.of(
            entry.boxes, entry.scores, entry.probabilities, masks, 5
        ).packed_masks,
    )


def _with_an_edge_moved(pixels: int) -> Callable[[CachedInstances], CachedInstances]:
    def change(entry: CachedInstances) -> CachedInstances:
        masks = entry.masks.copy()
        size = masks.sum((1, 2))
        smallest = int(size.argmin())
        assert size[smallest] < 100
        masks[smallest].reshape(-1)[np.flatnonzero(masks[smallest] == 0)[:pixels]] = 1
        return CachedInstances.of(entry.boxes, entry.scores, entry.probabilities, masks, 5)

    return change


def test_what_rounding_changes_is_forgiven(
    check: Callable[..., Verified], entries: dict[str, CachedInstances]
) -> None:
    """Pixels on the edge of a small mask, and an instance that is hardly sure enough to be one."""
    name, entry = next(
        (name, entry) for name, entry in entries.items() if entry.masks.sum((1, 2)).min() < 100
    )
    assert check(**{name: _with_an_edge_moved(3)(entry)}).same
    assert not check(**{name: _with_an_edge_moved(6)(entry)}).same
    assert not check(**{name: _without_the_last(entry)}).same
    lowest = float(entry.scores[-1]) - 1e-4
    assert check(score_thr=lowest, **{name: _without_the_last(entry)}).same


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
    entries: dict[str, CachedInstances],
    change: Callable[[CachedInstances], CachedInstances],
) -> None:
    found = check(**{"a.png": change(entries["a.png"])})
    assert found.different == ["a.png"]
    assert not found.same


def test_pictures_that_are_not_written_yet_are_not_asked_for(
    run: InstancePredictor,
    folder: FolderImages,
    entries: dict[str, CachedInstances],
    identity: dict[str, Any],
    tmp_path: Path,
) -> None:
    with CacheWriter(tmp_path / "a.sqlite", identity) as writer:
        writer.write([("e.png", entries["e.png"])])
    assert verify(run, folder, tmp_path / "a.sqlite", identity, 4) == Verified(1, [])
    with pytest.raises(UserError, match="images: the cache has 3, expected 4"):
        verify(run, folder, tmp_path / "a.sqlite", {**identity, "images": "4"}, 4)
