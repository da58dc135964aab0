"""A write cut short, by a kill or a full disk, leaves the last good checkpoint loadable and says so."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ibkd_mm.engine import TrustedRunner, load_weights
from ibkd_mm.engine.saving import POINTER, find_resumable, whole_file
from ibkd_mm.errors import UserError

Toy = Callable[..., TrustedRunner]


class Killed(BaseException):
    """Stands for the end of a process: nothing handles it."""


@pytest.fixture
def two_steps(toy: Toy, tmp_path: Path) -> Path:
    toy(tmp_path, 2, saving={"interval": 1}).train()
    return tmp_path


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_write_cut_short_at_any_byte_leaves_the_last_checkpoint(
    toy: Toy, two_steps: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    whole, save = (two_steps / "iter_2.pth").read_bytes(), torch.save

    def cut(checkpoint: Any, file: Any) -> None:
        save(checkpoint, file)
        file.truncate(int(share * file.tell()))
        raise Killed

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(Killed):
        toy(two_steps, 4, resume=True, load_from=str(two_steps / "iter_2.pth")).train()
    assert find_resumable(two_steps) == two_steps / "iter_2.pth"
    assert (two_steps / "iter_2.pth").read_bytes() == whole
    assert not (two_steps / "iter_4.pth").exists()


def test_what_a_killed_run_left_half_written_is_cleared_away(toy: Toy, two_steps: Path) -> None:
    partial = two_steps / ".iter_3.pth.partial"
    partial.write_bytes(b"half")
    toy(two_steps, 3, resume=True, load_from=str(two_steps / "iter_2.pth")).train()
    assert not partial.exists()
    assert load_weights(two_steps / "iter_3.pth")["meta"]["iter"] == 3


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_of_several_checkpoints_the_newest_whole_one_is_resumed(two_steps: Path, share: float) -> None:
    damaged = two_steps / "iter_2.pth"
    os.truncate(damaged, int(share * damaged.stat().st_size))
    assert find_resumable(two_steps) == two_steps / "iter_1.pth"


def test_where_none_is_whole_a_training_does_not_silently_start_anew(two_steps: Path) -> None:
    for path in two_steps.glob("*.pth"):
        os.truncate(path, 100)
    with pytest.raises(UserError, match="No checkpoint to resume from is whole"):
        find_resumable(two_steps)


def test_a_folder_that_was_moved_is_resumed_in_its_new_place(two_steps: Path, tmp_path: Path) -> None:
    moved = tmp_path.with_name(tmp_path.name + "_moved")
    two_steps.rename(moved)
    assert find_resumable(moved) == moved / "iter_2.pth"
    assert find_resumable(tmp_path) is None


def test_the_best_and_the_oldest_are_removed_only_after_the_next_is_there(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, save = [], torch.save

    def watch(checkpoint: Any, file: Any) -> None:
        left.append(sorted(path.name for path in tmp_path.glob("*.pth")))
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", watch)
    saving = {"interval": 1, "max_keep_ckpts": 1, "save_best": "toy/mean", "rule": "less"}
    toy(tmp_path, 3, saving=saving, validate=True, loop={"val_interval": 1}).train()
    assert all(names for names in left[1:]), "there was a moment without a checkpoint"
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert "iter_3.pth" in names
    assert len(names) == 2


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    with pytest.raises(FileNotFoundError), whole_file(path):
        (tmp_path / "missing").read_text()
    assert path.read_text() == "one"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_full_disk_leaves_the_last_checkpoint_and_is_said_in_one_message(
    toy: Toy, tmp_path: Path, small_disk: Path
) -> None:
    runner = toy(tmp_path, 40, saving={"interval": 1})
    saver = next(hook for hook in runner.hooks if type(hook).__name__ == "WholeCheckpointHook")
    saver.out_dir = str(small_disk)
    with pytest.raises(UserError, match=r"Cannot write the checkpoint .*No space left on device.* is whole"):
        runner.train()
    last = Path((tmp_path / POINTER).read_text())
    assert load_weights(last)["meta"]["iter"] == runner.iter
    assert not list(last.parent.glob(".*partial"))
