"""A hostile checkpoint is refused by every way in; nothing from it runs; no config is built from its text."""

import io
import json
import os
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_detector import write_tiny
from mmdet.apis import DetInferencer, init_detector
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint, load_from_local
from safetensors.torch import save_file
from torch import nn

from ibkd_mm import cli
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint import load
from ibkd_mm.errors import UserError

WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.tensor([0.5, -1.0]))
CANARY = Path("ran")
TEXT = "open('ran', 'w').close()\nmodel = dict()"
"""A config that makes the canary when it is built."""


class _System:
    """Makes the canary when it is read from a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


SYSTEM = _System()


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(load.TRUST, raising=False)
    load.warn_code_runs.cache_clear()


def _said(way: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        way()
    assert not CANARY.exists()
    return str(error.value)


def _with_pickle(path: str, program: bytes) -> None:
    """Write what torch would, with another program in place of its pickle."""
    torch.save({"state_dict": WEIGHTS}, "whole.pth")
    with zipfile.ZipFile("whole.pth") as whole, zipfile.ZipFile(path, "w") as made:
        for name in whole.namelist():
            made.writestr(name, program if name.endswith("data.pkl") else whole.read(name))


# --- the shapes that a hostile file can have ---


def _reduce(path: str) -> None:
    torch.save({"state_dict": WEIGHTS, "extra": SYSTEM}, path)


def _in_optimizer(path: str) -> None:
    state = {0: {"momentum_buffer": [WEIGHTS["weight"], (SYSTEM,)]}}
    torch.save({"state_dict": WEIGHTS, "optimizer": {"state": state, "param_groups": []}}, path)


def _in_metadata(path: str) -> None:
    weights = OrderedDict(WEIGHTS)
    weights._metadata = {"": SYSTEM}
    torch.save({"state_dict": weights}, path)


def _old_format(path: str) -> None:
    torch.save({"state_dict": WEIGHTS, "extra": SYSTEM}, path, _use_new_zipfile_serialization=False)


def _old_format_after_the_weights(path: str) -> None:
    torch.save({"state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=False)
    with Path(path).open("rb") as whole:
        for _ in range(4):  # magic number, protocol, system, weights; what follows are the keys of storages
            list(pickletools.genops(whole))
        start = whole.tell()
    Path(path).write_bytes(Path(path).read_bytes()[:start] + pickle.dumps(SYSTEM, protocol=2))


def _bare_pickle(path: str) -> None:
    Path(path).write_bytes(pickle.dumps(SYSTEM, protocol=2))


def _build(path: str) -> None:
    """`functools.partial` is made harmless, and given its function by BUILD."""
    state = b"(cposix\nsystem\n(X\x09\x00\x00\x00touch rant}Nt"
    _with_pickle(path, b"\x80\x02cfunctools\npartial\n(cbuiltins\nprint\ntR" + state + b"b)R.")


def _new_pickle(path: str) -> None:
    """Protocol 4 names functions by STACK_GLOBAL, which scanners for GLOBAL do not see."""
    _with_pickle(path, pickle.dumps(SYSTEM, protocol=4))


def _oldest_pickle(path: str) -> None:
    """INST names and calls a function at once."""
    _with_pickle(path, b"(S'touch ran'\niposix\nsystem\n.")


SHAPES: dict[Callable[[str], None], str] = {
    _reduce: "asks for `posix.system`",
    _in_optimizer: "asks for `posix.system`",
    _in_metadata: "asks for `posix.system`",
    _old_format: "asks for `posix.system`",
    _old_format_after_the_weights: "asks for `posix.system`",
    _bare_pickle: "asks for `posix.system`",
    _build: "asks for `functools.partial`",
    _new_pickle: "uses the pickle instruction FRAME",
    _oldest_pickle: "uses the pickle instruction STRING",
}


@pytest.mark.parametrize(("write", "asked"), SHAPES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_hostile_checkpoint_is_refused_whatever_its_shape(write: Callable[[str], None], asked: str) -> None:
    write("evil.pth")
    said = _said(lambda: load_weights("evil.pth"))
    assert said.startswith(f"evil.pth is refused: it {asked}, and reading it could run code.")
    assert "`--trust-checkpoint evil.pth`" in said
    assert f"{load.TRUST}={Path('evil.pth').resolve()}" in said


@pytest.mark.parametrize("write", SHAPES, ids=lambda value: value.__name__)
def test_upstreams_loader_runs_what_ours_refuses(write: Callable[[str], None]) -> None:
    write("evil.pth")
    with suppress(Exception):  # by then it has run
        load_from_local("evil.pth", "cpu")
    assert CANARY.exists()


def test_the_oldest_format_of_torch_is_refused_by_its_first_bytes() -> None:
    with tarfile.open("evil.pth", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(SYSTEM, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert "evil.pth is neither a zip archive nor a pickle" in _said(lambda: load_weights("evil.pth"))


# --- safetensors ---


def _header(header: Any, length: int | None = None, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        _header({}, length=2**63),
        _header({}, length=2**40),
        _header({"a": _entry(0, 4, [1])}),
        _header({"a": _entry(0, 4, [1]), "b": _entry(0, 4, [1])}, body=bytes(4)),
        _header({"a": _entry(4, 0, [1])}, body=bytes(8)),
        _header({"a": _entry(0, 4, [2**62, 4])}, body=bytes(4)),
        _header({"a": _entry(0, 4, [1], "PICKLE")}, body=bytes(4)),
        _header(b"[" * 100_000),
        _header({"a": "__import__('os').system('touch ran')"}),
        pickle.dumps(SYSTEM, protocol=2),
        pickle.dumps({"state_dict": WEIGHTS, "extra": SYSTEM}),
    ],
)
def test_a_hostile_header_of_safetensors_is_refused(content: bytes) -> None:
    Path("evil.safetensors").write_bytes(content)
    assert "evil.safetensors is not a complete safetensors file" in _said(
        lambda: load_weights("evil.safetensors")
    )


def test_safetensors_under_another_name_are_not_taken_for_a_pickle() -> None:
    save_file(WEIGHTS, "a.safetensors")
    Path("a.safetensors").rename("a.pth")
    assert "a.pth is neither a zip archive nor a pickle" in _said(lambda: load_weights("a.pth"))


# --- the ways in ---


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a detector that is built in a moment."""
    return write_tiny(tmp_path_factory.mktemp("tiny"), pictures=2)


def _test_command(path: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _command(cli.main(["test", str(tiny), path, "--work-dir", "w"]), capsys)


def _publish_command(path: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _command(cli.main(["publish", path, "a.safetensors"]), capsys)


def _command(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert code == 2
    raise UserError(capsys.readouterr().err.partition("error: ")[2])


WAYS: dict[str, Callable[..., object]] = {
    "load_weights": lambda path, *_: load_weights(path),
    "mmengine's table of loaders": lambda path, *_: CheckpointLoader.load_checkpoint(path),
    "mmengine's load_checkpoint": lambda path, *_: load_checkpoint(nn.Linear(3, 2), path),
    "init_cfg": lambda path, *_: BaseModule(
        init_cfg={"type": "Pretrained", "checkpoint": path}
    ).init_weights(),
    "init_detector": lambda path, tiny, _: init_detector(str(tiny), path, device="cpu"),
    "an inferencer": lambda path, *_: DetInferencer(weights=path, device="cpu"),
    "ibkd test": _test_command,
    "ibkd publish": _publish_command,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_hostile_checkpoint_is_refused_by_every_way_in(
    way: Callable[..., object], tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _reduce("evil.pth")
    said = _said(lambda: way("evil.pth", tiny, capsys))
    assert "evil.pth is refused: it asks for `posix.system`, and reading it could run code" in said


@pytest.mark.parametrize("resume", [False, True])
def test_a_hostile_checkpoint_is_refused_by_a_runner(toy: Any, tmp_path: Path, resume: bool) -> None:
    _in_optimizer("evil.pth")
    runner = toy(tmp_path / "run", 1, load_from="evil.pth", resume=resume)
    assert "evil.pth is refused: it asks for `posix.system`" in _said(runner.train)


# --- text of configs ---


def _with_texts(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Put the text wherever upstream looks for a config."""
    hub = checkpoint.setdefault("message_hub", {"runtime_info": {}, "resumed_keys": {}, "log_scalars": {}})
    hub["runtime_info"]["cfg"], hub["resumed_keys"]["cfg"] = TEXT, True
    checkpoint["meta"] = {**checkpoint.get("meta", {}), "config": TEXT, "cfg": TEXT}
    return checkpoint


class _Disguised:
    """Comes out of a pickle as an OrderedDict whose own methods say that nothing is there."""

    def __init__(self, mapping: dict[str, Any]) -> None:
        self.mapping = mapping

    def __reduce__(self) -> tuple[Any, ...]:
        methods = {"get": set, "pop": set, "items": OrderedDict, "keys": OrderedDict, "values": OrderedDict}
        return OrderedDict, (), methods, None, iter(self.mapping.items())


def disguised(checkpoint: dict[str, Any]) -> Any:
    hub = {key: _Disguised(value) for key, value in checkpoint["message_hub"].items()}
    return _Disguised({**checkpoint, "meta": _Disguised(checkpoint["meta"]), "message_hub": _Disguised(hub)})


@pytest.mark.parametrize("disguise", [dict, disguised])
def test_no_config_is_handed_on(disguise: Callable[[Any], Any]) -> None:
    torch.save(disguise(_with_texts({"state_dict": WEIGHTS, "meta": {"iter": 3}})), "a.pth")
    found = load_weights("a.pth")
    assert found["meta"] == {"iter": 3}
    assert found["message_hub"] == {"runtime_info": {}, "resumed_keys": {}, "log_scalars": {}}
    assert "ran" not in repr(found)


@pytest.mark.parametrize(("ours", "disguise"), [(True, dict), (True, disguised), (False, dict)])
def test_no_config_is_built_from_text_inside_by_a_resumed_run(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool, disguise: Callable[[Any], Any]
) -> None:
    """Upstream's loader stands in for comparison: with it, resuming runs the text."""
    toy(tmp_path / "run", 1, saving={"interval": 1}).train()
    whole = torch.load(tmp_path / "run" / "iter_1.pth", weights_only=False)
    torch.save(disguise(_with_texts(whole)), "evil.pth")
    if not ours:
        monkeypatch.setattr(CheckpointLoader, "_schemes", {"": load_from_local})
    toy(tmp_path / "again", 2, load_from="evil.pth", resume=True).train()
    assert CANARY.exists() is not ours


@pytest.mark.parametrize("ours", [True, False])
def test_no_config_is_built_from_text_inside_by_an_inferencer(
    monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    torch.save(_with_texts({"state_dict": WEIGHTS}), "evil.pth")
    if not ours:
        monkeypatch.setattr(CheckpointLoader, "_schemes", {"": load_from_local})
    with pytest.raises(Exception, match="Cannot find the config in the checkpoint" if ours else ""):
        DetInferencer(weights="evil.pth", device="cpu")
    assert CANARY.exists() is not ours


def test_no_config_is_built_from_text_inside_by_init_detector(tiny: Path) -> None:
    model = init_detector(str(tiny), device="cpu")
    torch.save(_with_texts({"state_dict": model.state_dict()}), "evil.pth")
    again = init_detector(Config.fromfile(tiny), "evil.pth", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not CANARY.exists()


def test_attributes_that_a_file_gives_are_taken_away() -> None:
    """numpy would read the dictionary, and the tensor, as the memory at an address."""
    memory = {"data": (1 << 40, True), "shape": (4,), "typestr": "<f8", "version": 3}
    weights = OrderedDict(weight=torch.ones(2))
    weights._metadata = OrderedDict({"": {"version": 2}})
    palette, tensor, inside = OrderedDict(), torch.ones(2), []
    for hidden in (palette, tensor, weights, weights._metadata):
        hidden.__array_interface__ = memory
    inside.append((palette, {"deeper": tensor}, inside))
    torch.save({"state_dict": weights, "meta": {"dataset_meta": inside}}, "a.pth")
    found = load_weights("a.pth")
    dictionary, deeper, _ = found["meta"]["dataset_meta"][0]
    assert vars(dictionary) == vars(deeper["deeper"]) == vars(found["state_dict"]._metadata) == {}
    assert vars(found["state_dict"]) == {"_metadata": {"": {"version": 2}}}


# --- the user's word ---


def test_a_file_that_is_named_is_trusted_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(load, "print_log", lambda text, *_: told.append(text))
    _reduce("evil.pth")
    for named in ("all", "1", "*", "evil", ".", str(Path.cwd()), "other.pth", f"{Path.cwd()}/sub/evil.pth"):
        monkeypatch.setenv(load.TRUST, named)
        _said(lambda: load_weights("evil.pth"))
    monkeypatch.setenv(load.TRUST, os.pathsep.join(["other.pth", str(Path("evil.pth").resolve())]))
    for _ in range(2):
        assert torch.equal(load_weights("evil.pth")["state_dict"]["weight"], WEIGHTS["weight"])
    assert CANARY.exists()
    assert len(told) == 1
    assert told[0].startswith("evil.pth is trusted (see IBKD_TRUST_CHECKPOINT): its code is run.")


def test_what_needs_no_trust_is_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(load, "print_log", lambda text, *_: told.append(text))
    monkeypatch.setenv(load.TRUST, "a.pth")
    torch.save(_with_texts({"state_dict": WEIGHTS}), "a.pth")
    assert load_weights("a.pth")["meta"] == {}
    assert not told


def test_a_trusted_file_that_cannot_be_read_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(load.TRUST, "a.pth")
    _with_pickle("a.pth", b"\x80\x02cno_such_package\nThing\n.")
    assert _said(lambda: load_weights("a.pth")) == (
        "a.pth is trusted, but cannot be read here (ModuleNotFoundError: No module named 'no_such_package')."
    )
