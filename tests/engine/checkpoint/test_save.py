"""A write cut short, by a kill or a full disk, leaves the last good checkpoint loadable and says so."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import METRICS

from ibkd_mm.engine import ResumableRunner, load_weights
from ibkd_mm.engine.checkpoint.latest import POINTER, PREEMPTED, find_resumable
from ibkd_mm.errors import UserError

Toy = Callable[..., ResumableRunner]


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
    with pytest.raises(UserError, match="No checkpoint to resume from is complete"):
        find_resumable(two_steps)


def test_a_folder_that_was_moved_is_resumed_in_its_new_place(two_steps: Path, tmp_path: Path) -> None:
    moved = tmp_path.with_name(tmp_path.name + "_moved")
    two_steps.rename(moved)
    os.utime(moved / "iter_1.pth")  # which is then the newest
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


def test_the_best_is_removed_only_after_a_better_one_is_there(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, save, scores = [], torch.save, iter([3.0, 2.0, 4.0, 1.0])

    def watch(checkpoint: Any, file: Any) -> None:
        left.append(sorted(path.name for path in tmp_path.glob("*.pth")))
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", watch)
    monkeypatch.setattr(METRICS.get("MeanLogit"), "compute_metrics", lambda *_: {"mean": next(scores)})
    saving = {"interval": -1, "save_last": False, "save_best": "toy/mean", "rule": "less"}
    toy(tmp_path, 4, saving=saving, validate=True, loop={"val_interval": 1}).train()
    assert left == [[], ["best_toy_mean_iter_1.pth"], ["best_toy_mean_iter_2.pth"]]
    assert [path.name for path in tmp_path.glob("*.pth")] == ["best_toy_mean_iter_4.pth"]


def test_a_checkpoint_is_named_once_it_is_there_and_older_ones_go_last(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("replace", "unlink"):
        original = getattr(Path, name)

        def watch(path: Path, *args: Any, _name: str = name, _do: Any = original, **more: Any) -> Any:
            done.append(f"{_name} {Path(args[0]).name if args else path.name}")
            return _do(path, *args, **more)

        monkeypatch.setattr(Path, name, watch)
    toy(tmp_path, 2, saving={"interval": 1, "max_keep_ckpts": 1}).train()
    named = [f"replace {POINTER}", f"unlink {PREEMPTED}"]
    second = ["replace iter_2.pth", f"replace {POINTER}", "unlink iter_1.pth", f"unlink {PREEMPTED}"]
    assert done == ["replace iter_1.pth", *named, *second]


def test_weights_that_cannot_be_trained_on_are_not_resumed(toy: Toy, tmp_path: Path) -> None:
    toy(tmp_path, 1).train()
    (tmp_path / POINTER).unlink()
    (tmp_path / "iter_1.pth").rename(tmp_path / "best_toy_mean_iter_1.pth")
    assert find_resumable(tmp_path) is None


def test_in_a_folder_of_their_own_checkpoints_are_found_and_cleared_up_after(
    toy: Toy, tmp_path: Path
) -> None:
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    for name in (PREEMPTED, f".{PREEMPTED}.partial"):
        (work_dir / name).write_bytes(b"of a former stop")
    toy(work_dir, 1, saving={"out_dir": str(tmp_path / "elsewhere")}).train()
    assert find_resumable(work_dir) == tmp_path / "elsewhere" / "run" / "iter_1.pth"
    assert not [path.name for path in work_dir.iterdir() if PREEMPTED in path.name]


class Full:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))


@pytest.mark.parametrize("room", [0, 4096, 12000])
def test_whatever_torch_makes_of_a_full_disk_one_message_says_it(
    toy: Toy, two_steps: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    # torch closes its archive all the same, which fails in another way once something is written.
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: save(checkpoint, Full(file, room)))
    said = rf"Cannot write {two_steps}/iter_3.pth: No space left on device.*iter_2.pth is complete"
    with pytest.raises(UserError, match=said):
        toy(two_steps, 3, resume=True, load_from=str(two_steps / "iter_2.pth")).train()
    assert find_resumable(two_steps) == two_steps / "iter_2.pth"


def test_an_error_that_is_not_the_disks_is_not_taken_for_one(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        toy(tmp_path, 1).train()


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
    with pytest.raises(UserError, match=r"Cannot write .*No space left on device.* is complete"):
        runner.train()
    last = Path((tmp_path / POINTER).read_text())
    assert load_weights(last)["meta"]["iter"] == runner.iter
    assert not list(last.parent.glob(".*partial"))
