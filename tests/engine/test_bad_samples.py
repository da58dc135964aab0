"""What cannot be read is named, counted and skipped in training, up to a set share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ibkd_mm.engine import TrustedRunner
from ibkd_mm.errors import UserError

Toy = Callable[..., TrustedRunner]


def guarded(
    toy: Toy, folder: Path, broken: tuple[int, ...], share: float, **changes: object
) -> TrustedRunner:
    guard = {"bad_samples": {"type": "ibkd_mm.BadSampleGuard", "share": share}}
    return toy(folder, 4, epochs=True, dataset={"broken": broken}, guards=guard, **changes)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_named_once_counted_and_replaced(
    toy: Toy, tmp_path: Path, workers: int
) -> None:
    runner = guarded(toy, tmp_path, (3,), share=0.1, workers=workers)
    said: list[str] = []
    runner.logger.warning = said.append  # type: ignore[method-assign]
    runner.train()
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
