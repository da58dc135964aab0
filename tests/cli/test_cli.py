"""The command line as a user meets it, without running a model."""

import ast
import os
import subprocess
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest
from helpers import ROOT

from ibkd_mm import cli
from ibkd_mm.cli import _arguments
from ibkd_mm.engine.checkpoint import load
from ibkd_mm.errors import UserError

_HELP_OF_ALL = """
import sys
from ibkd_mm import cli
assert cli.main(["--help"]) == 0
for name in cli.command_names():
    cli.build_parser(name).format_help()
heavy = {"torch", "mmengine", "mmcv", "mmdet", "numpy", "cv2", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _HELP_OF_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in cli.command_names():
        assert f"  {command} " in done.stdout


def test_a_script_and_its_command_are_the_same() -> None:
    for name, file in (("train", "train"), ("check", "check_dataset")):
        script = subprocess.run(
            [sys.executable, ROOT / "tools" / f"{file}.py", "--help"], capture_output=True, text=True
        )
        assert script.returncode == 0
        assert script.stdout == cli.build_parser(name).format_help()


def test_every_command_is_a_short_module_that_needs_only_the_standard_library() -> None:
    files = [Path(cli.__file__), *Path(cli.__file__).parent.glob("*.py")]
    for file in files:
        text = file.read_text()
        assert file.stem.startswith("_") or len(text.splitlines()) <= 60
        at_top = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {
            str(node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) for node in at_top
        }
        light = {module for module in modules if module.startswith("ibkd_mm")}
        assert light <= {"ibkd_mm.cli", "ibkd_mm.cli._arguments", "ibkd_mm.errors", "ibkd_mm.version"}
        assert {module.partition(".")[0] for module in modules - light} <= set(sys.stdlib_module_names), file


def test_a_mistyped_command_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "no command 'trian'. Did you mean 'train'?" in capsys.readouterr().err


def test_the_flags_of_openmmlab_are_known_to_train() -> None:
    flags = "--work-dir w --resume --amp --auto-scale-lr --launcher slurm --local_rank 1"
    args = cli.build_parser("train").parse_args(
        ["c.py", *flags.split(), "--cfg-options", "a=1", "b.c=[2,3]", "--cfg-options", "d=x=y"]
    )
    assert args == Namespace(
        config="c.py",
        work_dir="w",
        resume="auto",
        amp=True,
        auto_scale_lr=True,
        launcher="slurm",
        local_rank=1,
        cfg_options=["a=1", "b.c=[2,3]", "d=x=y"],
        trust_checkpoint=[],
        debug=False,
    )
    assert cli.build_parser("train").parse_args(["c.py"]).resume is None
    assert cli.build_parser("train").parse_args(["c.py", "--resume", "auto"]).resume == "auto"
    assert cli.build_parser("train").parse_args(["c.py", "--resume", "x.pth"]).resume == "x.pth"


def test_the_flags_of_openmmlab_are_known_to_test() -> None:
    flags = "--out o.pkl --show --show-dir d --wait-time 0.5 --tta --launcher mpi --local-rank 0"
    args = cli.build_parser("test").parse_args(["c.py", "k.pth", *flags.split()])
    assert (args.config, args.checkpoint, args.out, args.show_dir) == ("c.py", "k.pth", "o.pkl", "d")
    assert (args.show, args.tta, args.wait_time, args.launcher) == (True, True, 0.5, "mpi")


def test_an_option_without_a_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.build_parser("train").parse_args(["c.py", "--cfg-options", "a"])
    assert stop.value.code == 2
    assert "expected KEY=VALUE, found 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "test", "publish"])
def test_trust_is_for_files_that_are_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = cli.build_parser(command)
    required = {"train": ["c.py"], "test": ["c.py", "k.pth"], "publish": ["k.pth", "o.safetensors"]}[command]
    for wrong in ("all", ".", "k.pth", "a:b.pth"):
        (tmp_path / "a:b.pth").touch()
        with pytest.raises(SystemExit):
            parser.parse_args([*required, "--trust-checkpoint", wrong])
        assert f"found '{wrong}'" in capsys.readouterr().err
    (tmp_path / "k.pth").touch()
    (tmp_path / "l.pth").touch()
    args = parser.parse_args([*required, "--trust-checkpoint", "k.pth", "--trust-checkpoint", "./l.pth"])
    assert args.trust_checkpoint == [str(tmp_path / "k.pth"), str(tmp_path / "l.pth")]


def test_trust_is_handed_down_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k.pth").touch()
    monkeypatch.setenv(_arguments.TRUST, "/first.pth")
    seen: list[str] = []
    monkeypatch.setattr(
        import_module("ibkd_mm.cli.train"), "run", lambda _: seen.append(os.environ[_arguments.TRUST])
    )
    assert cli.main(["train", "c.py", "--trust-checkpoint", str(tmp_path / "k.pth")]) == 0
    assert seen == [f"/first.pth:{tmp_path / 'k.pth'}"]
    assert _arguments.TRUST == load.TRUST


def _answer(monkeypatch: pytest.MonkeyPatch, error: BaseException, *flags: str) -> int:
    def fail(_: Namespace) -> None:
        raise error

    monkeypatch.setattr(import_module("ibkd_mm.cli.train"), "run", fail)
    return cli.main(["train", "c.py", *flags])


def test_wrong_input_is_one_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _answer(monkeypatch, UserError("no such thing")) == 2
    assert capsys.readouterr().err == "ibkd train: error: no such thing\n"


def test_debug_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _answer(monkeypatch, UserError("no such thing"), "--debug") == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("ibkd train: error: no such thing\n")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        _answer(monkeypatch, ZeroDivisionError())


def test_an_interrupt_is_said_shortly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _answer(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "ibkd train: interrupted\n"


def test_a_package_that_cannot_be_imported_points_to_the_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _answer(monkeypatch, ImportError("libGL.so.1: cannot open")) == 1
    assert "libGL.so.1: cannot open\n`ibkd doctor` shows" in capsys.readouterr().err
