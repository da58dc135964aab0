"""A checkpoint that `--resume` finds is read once, and no checkpoint is kept longer than that."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ibkd_mm.engine import ResumableRunner, load_weights
from ibkd_mm.engine.checkpoint.latest import find_resumable
from ibkd_mm.engine.checkpoint.load import preload_weights

Toy = Callable[..., ResumableRunner]
CONTENT = {"state_dict": {"weight": torch.arange(4.0)}, "optimizer": {"state": [torch.ones(2), (1, None)]}}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that torch reads."""
    names: list[str] = []
    load = torch.load

    def counted(path: Path, **kwargs: Any) -> Any:
        names.append(path.name)
        return load(path, **kwargs)

    monkeypatch.setattr(torch, "load", counted)
    return names


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(CONTENT, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_a_training_that_resumes_reads_its_checkpoint_once(
    toy: Toy, tmp_path: Path, reads: list[str]
) -> None:
    toy(tmp_path, 2, saving={"interval": 1}).train()
    runner = toy(tmp_path, 3, resume=True, load_from=str(find_resumable(tmp_path)))
    runner.train()
    assert runner.iter == 3
    assert reads == ["iter_2.pth"]


def test_what_was_read_serves_one_load_of_that_file(saved: Path, reads: list[str]) -> None:
    torch.save(CONTENT, saved.with_name("b.pth"))
    preload_weights(saved)
    load_weights(saved.with_name("b.pth"))  # as a teacher's, while the model is built
    first, second = load_weights(saved), load_weights(saved)
    assert reads == ["a.pth", "b.pth", "a.pth"]
    assert first["state_dict"]["weight"].data_ptr() != second["state_dict"]["weight"].data_ptr()
    assert torch.equal(first["state_dict"]["weight"], CONTENT["state_dict"]["weight"])


def test_a_file_that_changed_is_read_again(saved: Path, reads: list[str]) -> None:
    preload_weights(saved)
    os.utime(saved, (1, 1))
    load_weights(saved)
    assert reads == ["a.pth", "a.pth"]


def test_tensors_are_on_the_device_that_the_load_asks_for(saved: Path, reads: list[str]) -> None:
    preload_weights(saved)
    moved = load_weights(saved, map_location="meta")
    assert reads == ["a.pth"]
    assert moved["state_dict"]["weight"].device.type == "meta"
    assert moved["optimizer"]["state"][0].device.type == "meta"
    assert moved["optimizer"]["state"][1] == (1, None)
    preload_weights(saved)
    read = load_weights(saved, map_location=lambda storage, _: storage)  # only torch can apply a function
    assert read["state_dict"]["weight"].device.type == "cpu"
    assert reads == ["a.pth", "a.pth", "a.pth"]


def test_moving_keeps_what_torch_stores_beside_a_state_dict(saved: Path) -> None:
    torch.save({"state_dict": torch.nn.BatchNorm2d(2).state_dict()}, saved)
    preload_weights(saved)
    assert load_weights(saved, map_location="meta")["state_dict"]._metadata[""]["version"] == 2


def test_safetensors_are_kept_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(CONTENT["state_dict"], tmp_path / "a.safetensors")
    preload_weights(tmp_path / "a.safetensors")
    monkeypatch.setattr("ibkd_mm.engine.checkpoint.load.load_file", None)
    weights = load_weights(tmp_path / "a.safetensors")["state_dict"]
    assert torch.equal(weights["weight"], CONTENT["state_dict"]["weight"])
