"""What cannot be read is named, counted and skipped in training, up to a set share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_training import warned
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ibkd_mm.engine import ResumableRunner
from ibkd_mm.engine.hooks import bad_samples
from ibkd_mm.engine.seeded_samples import SeededDataset, SeededIndex, count_distinct_samples
from ibkd_mm.errors import UserError

Toy = Callable[..., ResumableRunner]


def guarded(
    toy: Toy, folder: Path, broken: tuple[int, ...], share: float, **changes: object
) -> ResumableRunner:
    guard = {"bad_samples": {"type": "ibkd_mm.BadSampleGuard", "share": share}}
    return toy(folder, 4, epochs=True, dataset={"broken": broken}, guards=guard, **changes)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_named_once_counted_and_replaced(
    toy: Toy, tmp_path: Path, workers: int
) -> None:
    runner = guarded(toy, tmp_path, (3,), share=0.1, workers=workers)
    said = warned(runner)
    assert [line for line in said if "unreadable" in line] == [
        "Sample 3 is unreadable, replaced: OSError: picture 3.jpg is cut short"
    ]
    assert runner.message_hub.get_info("unreadable_samples") == 1
    assert runner.iter == 12  # four epochs of three batches


@pytest.mark.parametrize("workers", [0, 2])
def test_more_than_the_set_share_stops_the_training(toy: Toy, tmp_path: Path, workers: int) -> None:
    runner = guarded(toy, tmp_path, (3, 5), share=0.1, workers=workers)
    with pytest.raises(UserError, match=r"2 of 12 samples cannot be read, more than the 10.00%.*picture"):
        runner.train()


def test_a_data_set_of_which_nothing_can_be_read_stops_with_its_own_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is cut short"):
        guarded(toy, tmp_path, tuple(range(12)), share=1.0).train()


def test_without_the_guard_samples_are_still_replaced(toy: Toy, tmp_path: Path) -> None:
    runner = toy(tmp_path, 3, dataset={"broken": (0, 1)})
    runner.train()
    assert runner.iter == 3


def test_a_share_above_one_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        guarded(toy, tmp_path, (), share=5)


def test_samples_that_fail_with_the_same_words_are_counted_each(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = DATASETS.get("Noisy").__getitem__

    def vague(self: Any, index: int) -> Any:
        try:
            return read(self, index)
        except OSError:
            raise KeyError("bbox") from None

    monkeypatch.setattr(DATASETS.get("Noisy"), "__getitem__", vague)
    with pytest.raises(UserError, match=r"2 of 12 samples cannot be read.*KeyError: 'bbox'"):
        guarded(toy, tmp_path, (3, 5), share=0.1).train()


def test_what_other_processes_could_not_read_counts_and_is_named(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_samples, "get_world_size", lambda: 2)
    runner = guarded(toy, tmp_path, (3,), share=0.25)
    other = Path(runner.log_dir) / "unreadable_samples_1.jsonl"

    def note(*samples: int) -> None:
        lines = [json.dumps({"sample": one, "source": "", "error": "gone"}) for one in samples]
        other.write_text("".join(f"{line}\n" for line in lines))

    note(3, 7, 8)  # with the own one three of twelve are bad, a quarter: each process may come by all of them
    said = warned(runner)
    assert {line.split()[1] for line in said if "unreadable" in line} == {"3", "7", "8"}
    runner = guarded(toy, tmp_path / "more", (3,), share=0.25)
    other = Path(runner.log_dir) / "unreadable_samples_1.jsonl"
    note(7, 8, 9)
    with pytest.raises(UserError, match=r"4 of 12 samples.*unreadable_samples_\*\.jsonl"):
        runner.train()


class Listed(BaseDataset):
    """Ten samples of a file; the second cannot be read."""

    METAINFO = {"classes": ("a",)}

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(10)]

    def prepare_data(self, idx: int) -> Any:
        if idx == 1:
            raise ValueError("too short")
        return idx


class Mixed(Dataset[Any]):
    """Each sample is made of two."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index], self.dataset[(index + 1) % len(self)]


@pytest.fixture
def joined() -> Any:
    parts = [{"type": Listed, "ann_file": name} for name in ("one.json", "two.json")]
    return Mixed(RepeatDataset({"type": ConcatDataset, "datasets": parts}, 5))


def test_a_sample_is_told_by_its_own_place_and_file_not_by_those_it_was_mixed_into(
    joined: Any, tmp_path: Path
) -> None:
    drawn = SeededDataset(joined, seed=0, rank=0, error_log=tmp_path / "faults")
    for index in range(len(drawn)):
        drawn[SeededIndex(index, (0, index, 0))]
    notes = [json.loads(line) for line in (tmp_path / "faults").read_text().splitlines()]
    assert {(note["source"], note["sample"]) for note in notes} == {("one.json", 1), ("two.json", 1)}


def test_a_sample_that_is_repeated_is_one_sample(joined: Any) -> None:
    assert len(joined) == 100
    assert count_distinct_samples(joined) == 20


def test_a_line_that_is_still_being_written_waits(toy: Toy, tmp_path: Path) -> None:
    runner = guarded(toy, tmp_path, (), share=0.1)
    guard = next(hook for hook in runner.hooks if isinstance(hook, bad_samples.BadSampleGuard))
    faults = Path(runner.log_dir) / "unreadable_samples_0.jsonl"
    line = json.dumps({"sample": 4, "source": "", "error": "gone"}) + "\n"
    faults.write_text(line[:9])
    guard._read_log(runner, faults)
    assert guard._errors == {}
    faults.write_text(line)
    guard._read_log(runner, faults)
    assert guard._errors == {("", 4): "gone"}
    assert guard._offsets == {faults: len(line)}  # and is read once
