"""`ibkd COMMAND ...`: each module of this package is the command of that name.

A command module has a docstring, which is its help, `add_arguments(parser)` and `run(args)`. The result of
`run` is printed; its `exit_code`, if it has one, is returned. Heavy imports belong into `run`.
"""

from __future__ import annotations  # a Python that is too old must still run `ibkd doctor`

import os
import sys
import traceback
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ibkd_mm.cli._arguments import TRUST
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.version import __version__

FAILURE, USER_ERROR, INTERRUPTED = 1, 2, 130
_USAGE = """usage: ibkd COMMAND [arguments]

Distil large segmentation models into small real-time ones.

commands:
{commands}

`ibkd COMMAND --help` shows the arguments of a command, `ibkd --version` the version."""


def command_names() -> list[str]:
    """Return the names of the commands."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def build_parser(command: str) -> ArgumentParser:
    """Build the parser of one command."""
    module = import_module(f"ibkd_mm.cli.{command}")
    parser = ArgumentParser(f"ibkd {command}", description=module.__doc__, allow_abbrev=False)
    parser.formatter_class = RawDescriptionHelpFormatter
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run `command` or, if it is None, that of the first argument; return its exit code."""
    arguments = [*filter(None, [command]), *(sys.argv[1:] if argv is None else argv)]
    names = command_names()
    if not arguments or arguments[0] in ("-h", "--help"):
        summaries = {name: import_module(f"ibkd_mm.cli.{name}").__doc__ or "" for name in names}
        lines = [f"  {name:<12}{text.splitlines()[0].rstrip('.')}" for name, text in summaries.items()]
        print(_USAGE.format(commands="\n".join(lines)))
        return 0 if arguments else USER_ERROR
    if arguments[0] == "--version":
        print(__version__)
        return 0
    if arguments[0] not in names:
        hint = did_you_mean(arguments[0], names)
        print(f"ibkd: no command '{arguments[0]}'.{hint} Commands: {', '.join(names)}.", file=sys.stderr)
        return USER_ERROR
    return _run(arguments[0], build_parser(arguments[0]).parse_args(arguments[1:]))


def _run(command: str, args: Namespace) -> int:
    _set_environment(args)
    try:
        result = import_module(f"ibkd_mm.cli.{command}").run(args)
    except KeyboardInterrupt:
        print(f"ibkd {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        is_user_error = isinstance(error, UserError)
        if not is_user_error and not _failed_at_import(error):
            raise
        if args.debug:
            traceback.print_exc()
        message = str(error) if is_user_error else " ".join(f"{type(error).__name__}: {error}".split())
        print(f"ibkd {command}: error: {message}", file=sys.stderr)
        if is_user_error:
            return USER_ERROR
        print("`ibkd doctor` shows what is wrong with the installation, and the fix.", file=sys.stderr)
        return FAILURE
    if result is not None and os.environ.get("RANK", "0") == "0":  # one process prints for all
        print(result)
    return int(getattr(result, "exit_code", 0))


def _failed_at_import(error: Exception) -> bool:
    """Return whether one of our modules failed to import: a broken package raises errors of any type."""
    calls = traceback.extract_tb(error.__traceback__)
    package = f"{Path(__file__).parents[1]}{os.sep}"
    return isinstance(error, ImportError) or any(
        call.name == "<module>" and call.filename.startswith(package) for call in calls
    )


def _set_environment(args: Namespace) -> None:
    # Threads that spin while they wait take cores from data loaders and other runs: on two shared cores a
    # training step needs up to three times the CPU time. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    trusted = getattr(args, "trust_checkpoint", [])
    if trusted:  # in the environment, for the processes started from here
        os.environ[TRUST] = os.pathsep.join([*filter(None, [os.environ.get(TRUST)]), *trusted])
    os.environ.setdefault("LOCAL_RANK", str(getattr(args, "local_rank", 0)))
