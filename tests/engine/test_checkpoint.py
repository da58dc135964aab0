"""Reading checkpoints: what is whole is read alike from everywhere, what is not is refused with its cause."""

import hashlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from ibkd_mm.engine import load_weights, sources
from ibkd_mm.errors import UserError

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.tensor([0.5, -1.0]))


class _Hostile:
    """A pickle that makes a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


class _Asks:
    """A pickle that calls a function with arguments of its choice."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


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
    from ibkd_mm.engine.checkpoint import load_from_weights_only

    assert set(CheckpointLoader._schemes.values()) == {load_from_weights_only}


def test_promise_15_a_hostile_checkpoint_is_refused_by_every_way_in() -> None:
    torch.save({"state_dict": WEIGHTS, "extra": _Hostile()}, "evil.pth")
    torch.save({"state_dict": WEIGHTS, "extra": _Hostile()}, "old.pth", _use_new_zipfile_serialization=False)
    Path("plain.pth").write_bytes(pickle.dumps(_Hostile(), protocol=2))
    model = BaseModule(init_cfg={"type": "Pretrained", "checkpoint": "evil.pth"})
    ways = (
        lambda: load_weights("evil.pth"),
        lambda: load_weights("old.pth"),
        lambda: CheckpointLoader.load_checkpoint("evil.pth"),
        lambda: load_checkpoint(nn.Linear(3, 2), "evil.pth"),
        model.init_weights,
    )
    for way in ways:
        with pytest.raises(
            UserError, match=r"is refused: it asks for `posix.mkdir`, and reading it could run code"
        ):
            way()
    with pytest.raises(UserError):
        load_weights("plain.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "object_",
    [
        _Asks(getattr, HistoryBuffer, "__init__"),
        _Asks(getattr, np.ndarray, "tofile"),
        _Asks(eval, "1"),
        nn.Linear(1, 1),
    ],
)
def test_what_upstream_would_allow_too_much_is_refused(object_: Any) -> None:
    torch.save({"state_dict": WEIGHTS, "extra": object_}, "a.pth")
    assert "a.pth is refused: it asks for" in _said("a.pth")


def test_the_history_that_mmengine_saves_comes_back_as_it_was() -> None:
    history = HistoryBuffer([3.0, 5.0], [1, 2])
    scalars = {"best": np.float64(0.25), "count": np.int64(7), "array": np.arange(3)}
    torch.save({"state_dict": WEIGHTS, "history": history, **scalars}, "a.pth")
    found = load_weights("a.pth")
    assert type(found["history"]) is HistoryBuffer
    assert found["history"].mean() == pytest.approx(8 / 3)
    found["history"].update(1.0)
    assert found["history"].statistics("max") == 5.0
    assert (found["best"], found["count"], found["array"].tolist()) == (0.25, 7, [0, 1, 2])
    torch.save({"state_dict": WEIGHTS, "history": found["history"]}, "again.pth")
    assert load_weights("again.pth")["history"].data[0].tolist() == [3.0, 5.0, 1.0]


def test_a_history_of_other_things_than_numbers_is_refused() -> None:
    history = HistoryBuffer([3.0], [1])
    history._log_history = np.array(["a"])
    torch.save({"state_dict": WEIGHTS, "history": history}, "a.pth")
    _said("a.pth")


def test_no_config_is_built_from_text_inside() -> None:
    torch.save({"state_dict": WEIGHTS, "meta": {"config": "import os", "iter": 3}}, "a.pth")
    assert load_weights("a.pth")["meta"] == {"iter": 3}


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
    assert _said("s3://bucket/a.pth").startswith("Checkpoints are not read straight from s3://bucket/a.pth.")


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
    assert "No weights named ../outside.safetensors ship" in _said("ibkd_mm::../outside.safetensors")


class _Web:
    """Stands for the net: a file that can be fetched, and a count of how often it was."""

    def __init__(self, path: Path) -> None:
        self.path, self.fetched = path, 0

    def __call__(self, url: str, target: str, hash_prefix: str | None) -> None:
        self.fetched += 1
        contents = self.path.read_bytes()
        if hash_prefix and not hashlib.sha256(contents).hexdigest().startswith(hash_prefix):
            raise RuntimeError("invalid hash value")
        Path(target).write_bytes(contents)


def test_a_download_happens_once_and_its_hash_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(WEIGHTS, "source.pth")
    web = _Web(tmp_path / "source.pth")
    monkeypatch.setattr("torch.hub.download_url_to_file", web)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    right = hashlib.sha256(web.path.read_bytes()).hexdigest()[:8]
    for _ in range(2):
        assert _same(load_weights(f"https://example.org/models/a-{right}.pth"))
    assert web.fetched == 1
    assert _same(load_weights("https://example.org/models/a_20200130.pth?download=1"))
    assert "invalid hash value. Put the file at" in _said("https://example.org/models/a-0123456f.pth")


def test_torchvisions_weights_need_no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sources, "_download", lambda url: asked.append(url) or Path("a.pth"))
    torch.save(WEIGHTS, "a.pth")
    assert _same(load_weights("torchvision://resnet50"))
    assert asked == ["https://download.pytorch.org/models/resnet50-0676ba61.pth"]
