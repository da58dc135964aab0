"""Reading checkpoints: what is whole is read alike from everywhere, what is not is refused with its cause."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint import sources
from ibkd_mm.errors import UserError

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.tensor([0.5, -1.0]))


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _same(checkpoint: dict[str, Any]) -> bool:
    weights = checkpoint["state_dict"]
    return weights.keys() == WEIGHTS.keys() and all(
        torch.equal(weights[key], WEIGHTS[key]) for key in WEIGHTS
    )


def _said(path: str) -> str:
    with pytest.raises(UserError) as error:
        load_weights(path)
    return str(error.value)


@pytest.mark.parametrize("contents", [WEIGHTS, {"state_dict": WEIGHTS, "meta": {}}, {"model": WEIGHTS}])
def test_weights_are_found_however_they_were_saved(contents: dict[str, Any]) -> None:
    torch.save(contents, "a.pth")
    torch.save(contents, "old.pth", _use_new_zipfile_serialization=False)
    assert _same(load_weights("a.pth"))
    assert _same(load_weights("old.pth"))


def test_safetensors_are_read_by_name_and_by_upstream_alike() -> None:
    save_file(WEIGHTS, "a.safetensors")
    assert _same(load_weights("a.safetensors"))
    assert _same(CheckpointLoader.load_checkpoint("a.safetensors", map_location="cpu"))
    model = nn.Linear(3, 2)
    load_checkpoint(model, "a.safetensors", strict=True)
    assert torch.equal(model.weight, WEIGHTS["weight"])


def test_every_prefix_that_upstream_knows_goes_to_the_one_loader() -> None:
    from ibkd_mm.engine.checkpoint.load import load_from_weights_only

    assert set(CheckpointLoader._schemes.values()) == {load_from_weights_only}


@pytest.mark.parametrize("name", ["a.pth", "old.pth", "a.safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_anywhere_is_recognised(name: str, share: float) -> None:
    torch.save({"state_dict": WEIGHTS}, "a.pth")
    torch.save({"state_dict": WEIGHTS}, "old.pth", _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, "a.safetensors")
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: int(len(whole) * share)])
    said = _said(name)
    assert said.startswith((f"{name} is ", f"Expected a checkpoint, but {name} is "))


@pytest.mark.parametrize("contents", [[1, 2], torch.zeros(1), {"epoch": 3}, {}])
def test_a_file_without_weights_is_said_to_be_so(contents: object) -> None:
    torch.save(contents, "a.pth")
    assert _said("a.pth").startswith("Expected")


def test_the_nearest_names_are_given() -> None:
    torch.save(WEIGHTS, "iter_200.pth")
    assert _said("iter_20.pth") == "There is no checkpoint iter_20.pth. Did you mean 'iter_200.pth'?"
    assert _said(".").endswith("In it: iter_200.pth.")
    assert "Did you mean 'resnet50'?" in _said("torchvision://resnet5")
    assert _said("s3://bucket/a.pth").startswith("Checkpoints cannot be read from s3://bucket/a.pth.")


def test_shipped_weights_have_names_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ibkd_mm"
    (package / "weights").mkdir(parents=True)
    save_file(WEIGHTS, package / "weights" / "teacher.safetensors")
    save_file(WEIGHTS, package / "outside.safetensors")
    monkeypatch.setattr(sources.ibkd_mm, "__file__", str(package / "__init__.py"))
    assert _same(load_weights("ibkd_mm::teacher.safetensors"))
    assert _same(load_weights("ibkd_mm::weights/teacher.safetensors"))
    assert "Did you mean 'teacher.safetensors'?" in _said("ibkd_mm::techer.safetensors")
    assert "ships no weights named ../outside.safetensors" in _said("ibkd_mm::../outside.safetensors")


def test_torchvisions_weights_need_no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sources, "_download", lambda url: asked.append(url) or Path("a.pth"))
    torch.save(WEIGHTS, "a.pth")
    assert _same(load_weights("torchvision://resnet50"))
    assert asked == ["https://download.pytorch.org/models/resnet50-0676ba61.pth"]
