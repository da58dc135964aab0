"""The command line as a user meets it, without running a model."""

import ast
import os
import subprocess
import sys
import time
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest
from ibkd_tools import arguments, cli, doctor

from ibkd_mm.engine import trust
from ibkd_mm.errors import UserError

TOOLS = Path(cli.__file__).parent
_train, _test = import_module("ibkd_tools.train"), import_module("ibkd_tools.test")
_HELP_OF_ALL = """
import sys
from importlib import import_module
from ibkd_tools import cli
assert cli.main(["--help"]) == 0
for name in cli.COMMANDS:
    module = import_module(cli.module_of(name))
    if hasattr(module, "parser"):
        module.parser().format_help()
heavy = {"torch", "mmengine", "mmcv", "mmdet", "numpy", "cv2", "ibkd_mm"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _HELP_OF_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in cli.COMMANDS:
        assert f"  {command} " in done.stdout


def test_help_answers_in_half_a_second() -> None:
    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ibkd_tools.cli", "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 0.5


def test_a_script_and_its_command_are_the_same() -> None:
    for name, file in (("train", "train"), ("check", "check_dataset")):
        script = subprocess.run(
            [sys.executable, TOOLS / f"{file}.py", "--help"], capture_output=True, text=True
        )
        assert script.returncode == 0
        assert script.stdout == import_module(cli.module_of(name)).parser().format_help()


def test_every_command_is_a_short_module_that_needs_only_the_standard_library() -> None:
    for name in (*cli.COMMANDS, "arguments", "cli"):
        text = (TOOLS / f"{cli.module_of(name).removeprefix('ibkd_tools.')}.py").read_text()
        assert name in ("arguments", "cli") or len(text.splitlines()) <= 60
        at_top = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in at_top}
        roots = {str(module).partition(".")[0] for module in modules} - {"ibkd_tools"}
        assert roots <= set(sys.stdlib_module_names), name


def test_a_mistyped_command_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "no command 'trian'. Did you mean 'train'?" in capsys.readouterr().err


def test_the_flags_of_openmmlab_are_known_to_train() -> None:
    flags = "--work-dir w --resume --amp --auto-scale-lr --launcher slurm --local_rank 1"
    args = _train.parser().parse_args(
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
    assert _train.parser().parse_args(["c.py"]).resume is None
    assert _train.parser().parse_args(["c.py", "--resume", "auto"]).resume == "auto"
    assert _train.parser().parse_args(["c.py", "--resume", "x.pth"]).resume == "x.pth"


def test_the_flags_of_openmmlab_are_known_to_test() -> None:
    flags = "--out o.pkl --show --show-dir d --wait-time 0.5 --tta --launcher mpi --local-rank 0"
    args = _test.parser().parse_args(["c.py", "k.pth", *flags.split()])
    assert (args.config, args.checkpoint, args.out, args.show_dir) == ("c.py", "k.pth", "o.pkl", "d")
    assert (args.show, args.tta, args.wait_time, args.launcher) == (True, True, 0.5, "mpi")


def test_an_option_without_a_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        _train.parser().parse_args(["c.py", "--cfg-options", "a"])
    assert stop.value.code == 2
    assert "expected KEY=VALUE, found 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "test", "publish"])
def test_trust_is_for_files_that_are_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = import_module(f"ibkd_tools.{command}").parser()
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
    monkeypatch.setenv(arguments.TRUST, "/first.pth")
    parser = arguments.new_parser("train", "")
    arguments.add_common(parser)
    seen: list[str] = []
    given = ["c.py", "--trust-checkpoint", str(tmp_path / "k.pth")]
    assert arguments.answer(lambda _: seen.append(os.environ[arguments.TRUST]), parser, given) == 0
    assert seen == [f"/first.pth:{tmp_path / 'k.pth'}"]
    assert arguments.TRUST == trust.VARIABLE


def _answer(error: BaseException, *flags: str) -> int:
    def fail(_: Namespace) -> None:
        raise error

    parser = arguments.new_parser("train", "")
    arguments.add_common(parser)
    return arguments.answer(fail, parser, ["c.py", *flags])


def test_wrong_input_is_one_message_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert _answer(UserError("no such thing")) == 2
    assert capsys.readouterr().err == "ibkd train: error: no such thing\n"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert _answer(UserError("no such thing"), "--debug") == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("ibkd train: error: no such thing\n")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        _answer(ZeroDivisionError())


def test_an_interrupt_is_said_shortly(capsys: pytest.CaptureFixture[str]) -> None:
    assert _answer(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "ibkd train: interrupted\n"


def test_a_package_that_cannot_be_imported_points_to_the_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ibkd_mm")
    assert _answer(ImportError("libGL.so.1: cannot open")) == 1
    assert "libGL.so.1: cannot open\n`ibkd doctor` tells" in capsys.readouterr().err


def test_the_doctor_works_where_the_package_does_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "ibkd_mm"
    (package / "stack").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('broken')")
    (package / "stack" / "doctor.py").write_text("def main(argv):\n    print(argv)\n    return 1\n")
    spec = Namespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(doctor, "find_spec", lambda name: spec)
    assert doctor.main(["--json"]) == 1
    assert capsys.readouterr().out == "['--json']\n"
    (package / "stack" / "doctor.py").unlink()
    assert doctor.main([]) == 1
    assert "doctor.py is missing" in capsys.readouterr().err
