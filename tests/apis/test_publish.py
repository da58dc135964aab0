import os

import pytest
import torch
from safetensors.torch import load_file

from ibkd_mm import cli
from ibkd_mm.apis import publish
from ibkd_mm.engine.checkpoint.load import checkpoint_classes, load_weights
from ibkd_mm.errors import UserError


def _checkpoint(path, weight):
    state = {"a.weight": weight, "a.alias": weight, "a.count": torch.tensor(7)}
    torch.save({"state_dict": state, "optimizer": {"state": {}}, "meta": {"iter": 3}}, path)
    return str(path)


def test_weights_are_halved_and_counters_kept(tmp_path):
    weight = torch.tensor([[0.1, -2.5], [3.0, 65504.0]])
    done = publish(_checkpoint(tmp_path / "a.pth", weight), str(tmp_path / "new" / "a.safetensors"))
    found = load_file(done.path)
    assert sorted(found) == ["a.alias", "a.count", "a.weight"]
    assert found["a.weight"].dtype == torch.float16
    torch.testing.assert_close(found["a.weight"], weight.half())
    assert found["a.count"].item() == 7
    assert (done.tensors, done.parameters) == (3, 9)
    assert [path.name for path in done.path.parent.iterdir()] == ["a.safetensors"]


def test_the_names_of_classes_are_kept(tmp_path):
    meta = {"dataset_meta": {"classes": ("cat", "dog")}}
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": meta}, tmp_path / "a.pth")
    done = publish(str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors"))
    assert checkpoint_classes(load_weights(str(done.path))) == ("cat", "dog")
    bare = publish(_checkpoint(tmp_path / "b.pth", torch.ones(1)), str(tmp_path / "b.safetensors"))
    assert checkpoint_classes(load_weights(str(bare.path))) == ()


def test_others_may_read_it(tmp_path):
    old = os.umask(0o022)
    try:
        done = publish(_checkpoint(tmp_path / "a.pth", torch.ones(1)), str(tmp_path / "a.safetensors"))
    finally:
        os.umask(old)
    assert done.path.stat().st_mode & 0o777 == 0o644


def test_full_precision_changes_no_bit(tmp_path):
    weight = torch.randn(3, 3)
    done = publish(_checkpoint(tmp_path / "a.pth", weight), str(tmp_path / "a.safetensors"), half=False)
    assert torch.equal(load_file(done.path)["a.weight"], weight)


def test_weights_too_large_for_half_precision_are_named(tmp_path):
    path = _checkpoint(tmp_path / "a.pth", torch.tensor([1e6]))
    with pytest.raises(UserError, match=r"a\.weight.*--full-precision"):
        publish(path, str(tmp_path / "a.safetensors"))
    assert not (tmp_path / "a.safetensors").exists()


def test_an_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists"):
        publish(_checkpoint(tmp_path / "a.pth", torch.ones(1)), str(tmp_path / "a.safetensors"))
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"ending in \.safetensors"):
        publish(_checkpoint(tmp_path / "a.pth", torch.ones(1)), str(tmp_path / "a.pth2"))


def test_the_command_says_what_was_written_once_for_all_processes(tmp_path, capsys, monkeypatch):
    path, out = _checkpoint(tmp_path / "a.pth", torch.ones(1)), tmp_path / "a.safetensors"
    assert cli.main(["publish", path, str(out)]) == 0
    assert capsys.readouterr().out == f"Wrote {out}: 3 tensors, 0.00 M values, 0.0 MB\n"
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["publish", path, str(tmp_path / "b.safetensors")]) == 0
    assert capsys.readouterr().out == ""
