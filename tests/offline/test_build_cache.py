"""A cache holds what the teacher itself would predict, of each picture once, however often it is stopped."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from helpers.teacher_caches import INSTANCES, entries_of, entry_of, pack, unpack
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from torch import distributed

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd import QueryInstances
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.methods.ibkd.teacher_predictions import InstancePredictor
from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter
from ibkd_mm.offline import build_cache as making
from ibkd_mm.offline.build_cache import build_cache, part_of, predict
from ibkd_mm.offline.images import FolderImages

COUNT = 11
META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


def predicted(run: InstancePredictor, batch: Any) -> Any:
    data = run.preprocessor(batch, False)
    with torch.no_grad():
        return run.teacher.predict(data["inputs"], data["data_samples"])[0].pred_instances


def test_entries_are_what_the_teacher_predicts_in_pictures_as_they_lie_on_the_disk(
    run: InstancePredictor, folder: FolderImages
) -> None:
    """Resized, padded and enlarged again: masks, boxes and classes are those of the teacher's own test.

    Its score it takes of the enlarged mask; here, as where the teacher runs beside a student, it is of cells.
    """
    checked = 0
    for index, (height, width) in enumerate([(48, 80), (90, 60), (64, 64)]):
        ((key, entry),) = entries_of(run, pseudo_collate([folder[index]]))
        assert key == folder.keys[index]
        entry = unpack(pack(entry))
        assert (entry.height, entry.width, entry.classes) == (height, width, 8)
        own = predicted(run, pseudo_collate([folder[index]]))
        scores: dict[bytes, dict[int, float]] = {}
        for mask, label, score in zip(own.masks, own.labels.tolist(), own.scores.tolist(), strict=True):
            scores.setdefault(mask.numpy().tobytes(), {})[label] = score
        boxes = {
            mask.numpy().tobytes(): box.tolist() for mask, box in zip(own.masks, own.bboxes, strict=True)
        }
        for row, mask in enumerate(entry.masks.astype(bool)):
            expected = scores[mask.tobytes()]  # bit for bit
            assert entry.boxes[row].tolist() == boxes[mask.tobytes()]
            first, *others = (label for label in entry.top_classes[row].tolist() if label in expected)
            assert expected[first] == max(expected.values())
            for label in others:  # the mask's part of the score is the same for all
                ratio = entry.probabilities[row, label] / entry.probabilities[row, first]
                assert ratio == pytest.approx(expected[label] / expected[first], abs=5e-4)
            checked += len(expected)
    assert checked > 20


def test_scores_and_shares_are_those_of_the_connector(run: InstancePredictor, folder: FolderImages) -> None:
    data = run.preprocessor(pseudo_collate([folder[1]]), False)
    seen = QueryInstances(score_thr=0.0)(run.teacher.outputs(data["inputs"], data["data_samples"]))
    ((_, entry),) = entries_of(run, pseudo_collate([folder[1]]))
    assert len(entry) == len(seen) > 3
    entry = unpack(pack(entry))
    assert entry.scores == pytest.approx(seen.scores.numpy(), abs=1e-4)
    best, classes = seen.probabilities.topk(5)
    assert np.array_equal(entry.top_classes, classes.numpy())
    assert entry.top_probabilities == pytest.approx(best.numpy(), abs=1e-4)


def test_masks_are_enlarged_one_by_one(
    run: InstancePredictor, folder: FolderImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a large picture's at once would be gigabytes."""
    (seen,) = predict(run, pseudo_collate([folder[1]]))
    sizes, enlarge = [], torch.nn.functional.interpolate

    def noted(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        sizes.append(tuple(x.shape[:2]))
        return enlarge(x, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "interpolate", noted)
    assert len(seen.entry()) > 3
    assert set(sizes) == {(1, 1)}


def test_an_entry_does_not_depend_on_what_else_is_in_the_batch(
    run: InstancePredictor, folder: FolderImages, same: Callable[..., bool]
) -> None:
    alone = dict(entry for index in range(4) for entry in entries_of(run, pseudo_collate([folder[index]])))
    together = dict(entries_of(run, pseudo_collate([folder[index] for index in range(4)])))
    assert set(together) == set(alone) == set(folder.keys[:4])
    for key, entry in together.items():
        assert len(entry) == len(alone[key]) > 0
        assert (entry.masks != alone[key].masks).mean() < 1e-4  # sums in another order
        assert entry.scores == pytest.approx(alone[key].scores, abs=1e-4)


def test_at_levels_the_main_mask_is_that_of_a_hard_entry(
    run: InstancePredictor, folder: FolderImages
) -> None:
    """And each level's is what of the enlarged mask is over it, inside the one below."""
    levels = (0.3, 0.5, 0.7)
    soft = InstancePredictor(run.teacher, run.preprocessor, INSTANCES, run.topk_classes, levels)
    for index in range(4):
        batch = pseudo_collate([folder[index]])
        ((_, hard),), ((_, entry),) = entries_of(run, batch), entries_of(soft, batch)
        assert (entry.thresholds, hard.thresholds) == (levels, (0.5,))
        assert np.array_equal(entry.masks, hard.masks)
        assert np.array_equal(entry.boxes, hard.boxes)
        assert np.array_equal(entry.scores, hard.scores)
        low, main, high = np.split(entry.unpack_masks(range(3 * len(entry))), 3)
        assert (low >= main).all()
        assert (main >= high).all()
        assert low.sum() > main.sum() > high.sum()


def _one(logits: torch.Tensor) -> TeacherInstances:
    """Be sure of one instance, of (1, h, w) logits."""
    return TeacherInstances(
        image=torch.zeros(1),
        probabilities=torch.ones(1, 2),
        scores=torch.ones(1),
        mask_logits=logits,
        boxes=torch.zeros(1, 4),
    )


def test_what_a_pad_adds_is_no_part_of_the_picture() -> None:
    """Of 640x640 cells' pixels a picture of 240x320, twice as large, covers the upper 480 rows."""
    logits = torch.full((1, 160, 160), -1.0)
    logits[:, :60] = 1.0
    seen = _one(logits)
    meta = {"img_id": 1, "ori_shape": (240, 320), "img_shape": (640, 640), "scale_factor": (2.0, 2.0)}
    entry = entry_of(seen, (640, 640), meta)
    assert entry.masks.shape == (1, 240, 320)
    assert entry.boxes.tolist() == [[0, 0, 320, 120]]
    assert entry.masks[0, :120].all()


def test_fragments_are_left_out_of_masks_and_their_boxes() -> None:
    """At each level by itself; an instance of which the main level has nothing is none."""
    logits = torch.full((1, 40, 40), -9.0)
    logits[:, 4:20, 4:12] = 2.0
    logits[:, 30:34, 30:36] = 2.0  # 24 cells beside 128
    logits[:, 30:38, 4:8] = -0.5  # over 0.3 alone, 32 cells
    seen = _one(logits)
    meta = {"img_id": 1, "ori_shape": (40, 40), "img_shape": (40, 40), "scale_factor": (1.0, 1.0)}
    whole, parted = (
        entry_of(seen, (40, 40), meta, thresholds=(0.3, 0.5), min_component_ratio=ratio)
        for ratio in (0.0, 0.2)
    )
    assert whole.boxes.tolist() == [[4, 4, 36, 34]]
    assert parted.boxes.tolist() == [[4, 4, 12, 20]]
    assert [mask.sum() for mask in whole.unpack_masks([0, 1])] == [128 + 24 + 32, 128 + 24]
    assert [mask.sum() for mask in parted.unpack_masks([0, 1])] == [128 + 32, 128]


@dataclass
class Sight:
    """Stands for what was seen in a picture; making an entry of it may be held up, or fail."""

    key: str
    made: CachedInstances
    before: Callable[[], object]

    def entry(self) -> CachedInstances:
        self.before()
        return self.made


class Noting:
    """Stands for a teacher, and notes which pictures it was shown."""

    def __init__(self, entry: Callable[..., CachedInstances]) -> None:
        self.entry, self.shown = entry, []  # type: ignore[var-annotated]
        self.before: Callable[[], object] = int
        self.called: Callable[[], object] = int

    def __call__(self, batch: Any) -> list[Sight]:
        self.shown += batch
        self.called()
        return [Sight(key, self.entry(int(key), size=(16, 16)), self.before) for key in batch]


class Keys:
    """Pictures that are but their keys."""

    def __init__(self, count: int = COUNT) -> None:
        self.keys = [str(number) for number in range(count)]
        self.sizes = [(0, 0)] * count

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> str:
        return self.keys[index]


@pytest.fixture
def noting(entry: Callable[..., CachedInstances], monkeypatch: pytest.MonkeyPatch) -> Noting:
    monkeypatch.setattr(making, "pseudo_collate", list)
    monkeypatch.setattr(making, "predict", lambda predictor, batch: predictor(batch))
    return Noting(entry)


def steps(noting: Noting, path: Path, identity: dict[str, Any]) -> Iterator[tuple[int, int]]:
    return build_cache(noting, Keys(), path, identity, batch_size=2, workers=0)  # type: ignore[arg-type]


def test_going_on_shows_the_teacher_only_what_is_lacking(
    noting: Noting, tmp_path: Path, identity: dict[str, Any], same: Callable[..., bool]
) -> None:
    path = tmp_path / "a.sqlite"
    first = steps(noting, path, identity)
    assert [next(first) for _ in range(3)] == [(0, 11), (2, 11), (4, 11)]
    first.close()
    assert list(steps(noting, path, identity)) == [(4, 11), (6, 11), (8, 11), (10, 11), (11, 11)]
    assert list(steps(noting, path, identity)) == [(11, 11)]
    assert noting.shown == Keys().keys
    check_whole(path, noting, same)
    with pytest.raises(UserError, match="weights: the cache has 2, expected 9"):
        next(steps(noting, path, {**identity, "weights": "9"}))


def test_the_teacher_looks_on_while_what_it_saw_is_written(
    noting: Noting, tmp_path: Path, identity: dict[str, Any]
) -> None:
    """Entries of the first batch are held up until the second has been looked at."""
    first, second = steps(noting, tmp_path / "a.sqlite", identity), Event()
    noting.before = lambda: second.wait(20) or pytest.fail("the teacher waited")
    assert [next(first) for _ in range(2)] == [(0, 11), (2, 11)]
    noting.called = second.set
    assert next(first) == (4, 11)
    first.close()
    with CacheReader(tmp_path / "a.sqlite") as reader:
        assert reader.keys() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("failing", "looked_at"), [(0, 4), (10, 11)])
def test_what_cannot_be_written_stops_the_run(
    noting: Noting, tmp_path: Path, identity: dict[str, Any], failing: int, looked_at: int
) -> None:
    """The last batch's, too."""

    def fail() -> None:
        if int(noting.shown[-1]) >= failing:
            raise OSError("no room")

    noting.before = fail
    with pytest.raises(OSError, match="no room"):
        list(steps(noting, tmp_path / "a.sqlite", identity))
    assert len(noting.shown) == looked_at


def test_pictures_of_one_size_stand_in_one_batch(
    noting: Noting, tmp_path: Path, identity: dict[str, Any]
) -> None:
    keys = Keys()
    keys.sizes = [(40 + 10 * (number % 2), 30) for number in range(COUNT)]
    path = tmp_path / "a.sqlite"
    list(build_cache(noting, keys, path, identity, batch_size=2, workers=0))  # type: ignore[arg-type]
    assert noting.shown == ["0", "2", "4", "6", "8", "10", "1", "3", "5", "7", "9"]


def test_what_cannot_be_read_is_named_and_left_out_until_it_is_too_much(
    run: InstancePredictor, folder: FolderImages, tmp_path: Path, identity: dict[str, Any]
) -> None:
    copied = Path(shutil.copytree(folder.source, tmp_path / "copied"))
    (copied / "a.png").write_bytes((copied / "a.png").read_bytes()[:40])
    (copied / "b" / "d.bmp").write_bytes(b"none")
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs", "meta_keys": META}]
    with DefaultScope.overwrite_default_scope("mmdet"):
        broken = FolderImages(copied, pipeline)

    def steps(unreadable: float) -> list[tuple[int, int]]:
        path = tmp_path / "a.sqlite"
        made = build_cache(run, broken, path, identity, batch_size=2, workers=0, unreadable=unreadable)
        return list(made)

    with pytest.raises(UserError, match=r"2 images .*accepts 1. The last: b/d.bmp: .*written so far"):
        steps(0.25)
    with pytest.MonkeyPatch.context() as patch:  # one of the four is more than the share of this process
        patch.setattr(making, "barrier", lambda: None)
        patch.setattr(making, "get_world_size", lambda: 3)
        assert steps(0.25)[-1] == (4, 4)
    assert steps(0.5)[-1] == (4, 4)
    with CacheReader(tmp_path / "a.sqlite") as reader:
        assert sorted(reader.keys()) == ["b/c.JPG", "e.png"]


def check_whole(path: Path, noting: Noting, same: Callable[..., bool]) -> None:
    assert list(path.parent.iterdir()) == [path]  # parts and journals are gone
    with CacheReader(path) as reader:
        assert sorted(reader.keys(), key=int) == Keys().keys
        for key in reader.keys():  # noqa: SIM118
            found = reader.find(key)
            assert found is not None
            assert same(found[1], noting.entry(int(key), size=(16, 16)))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_processes_had_written_when_they_were_stopped_is_taken_in_by_any_number(
    noting: Noting, tmp_path: Path, identity: dict[str, Any], processes: int, same: Callable[..., bool]
) -> None:
    """One had done six pictures and the other one: each would reckon with something else that is lacking."""
    path = tmp_path / "a.sqlite"
    for rank, done in ((0, "02468"), (1, "1")):
        with CacheWriter(part_of(path, rank), identity) as writer:
            writer.write((sight.key, sight.made) for sight in noting(done))
    noting.shown.clear()
    ranks = [0] * processes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "barrier", lambda: None)
        patch.setattr(making, "get_world_size", lambda: processes)
        for rank in range(processes):
            patch.setattr(making, "get_rank", lambda rank=rank: rank)
            ranks[rank] = steps(noting, path, identity)  # type: ignore[call-overload]
            next(ranks[rank])  # type: ignore[call-overload]
        for one in reversed(ranks):
            list(one)  # type: ignore[call-overload]
    assert sorted(noting.shown, key=int) == ["3", "5", "7", "9", "10"]
    check_whole(path, noting, same)


def _work(rank: int, folder: Path, noting: Noting, identity: dict[str, Any]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    list(steps(noting, folder / "cache" / "a.sqlite", identity))
    distributed.destroy_process_group()


def test_two_processes_share_the_work(
    noting: Noting, tmp_path: Path, identity: dict[str, Any], same: Callable[..., bool]
) -> None:
    fork = get_context("fork")
    processes = [fork.Process(target=_work, args=(rank, tmp_path, noting, identity)) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(60)
    assert [one.exitcode for one in processes] == [0, 0]
    check_whole(tmp_path / "cache" / "a.sqlite", noting, same)
