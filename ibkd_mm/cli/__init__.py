"""`ibkd COMMAND ...`: every module of this package is the command of its name.

A command module has a docstring, which is its help; `add_arguments(parser)`; and `run(args)`, whose result is
printed and whose `exit_code`, if it has one, is returned. It imports what is heavy inside `run`.
"""

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


def command_names() -> list[str]:
    """List the commands: the modules of this package."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def build_parser(command: str) -> ArgumentParser:
    """Build the parser of one command."""
    module = import_module(f"ibkd_mm.cli.{command}")
    parser = ArgumentParser(
        prog=f"ibkd {command}",
        description=module.__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser


def usage() -> str:
    """Format what `ibkd --help` prints."""
    summaries = {name: import_module(f"ibkd_mm.cli.{name}").__doc__ or "" for name in command_names()}
    lines = [f"  {name:<12}{text.splitlines()[0].rstrip('.')}" for name, text in summaries.items()]
    return "\n".join(
        [
            "usage: ibkd COMMAND [arguments]",
            "",
            "Distil large segmentation models into small real-time ones.",
            "",
            "commands:",
            *lines,
            "",
            "`ibkd COMMAND --help` shows the arguments of a command, `ibkd --version` the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 success, 1 failure, 2 wrong input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else USER_ERROR
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, names = arguments[0], command_names()
    if command not in names:
        hint = did_you_mean(command, names)
        print(f"ibkd: no command '{command}'.{hint} Commands: {', '.join(names)}.", file=sys.stderr)
        return USER_ERROR
    return _run(command, build_parser(command).parse_args(arguments[1:]))


def _run(command: str, args: Namespace) -> int:
    """Run a command and print its result; wrong input is one message and exit code 2."""
    _set_environment(args)
    try:
        result = import_module(f"ibkd_mm.cli.{command}").run(args)
    except KeyboardInterrupt:
        print(f"ibkd {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (UserError, ImportError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"ibkd {command}: error: {error}", file=sys.stderr)
        if isinstance(error, UserError):
            return USER_ERROR
        print("`ibkd doctor` shows what is wrong with the installation, and the fix.", file=sys.stderr)
        return FAILURE
    if result is not None and os.environ.get("RANK", "0") == "0":  # one process reports for all
        print(result)
    return int(getattr(result, "exit_code", 0))


def _set_environment(args: Namespace) -> None:
    # Threads that wait by spinning take the cores from data loaders and from other runs: on two shared cores
    # a training step costs up to three times the processor time. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    trusted = getattr(args, "trust_checkpoint", [])
    if trusted:  # in the environment, so that every process started from here has it
        os.environ[TRUST] = os.pathsep.join([*filter(None, [os.environ.get(TRUST)]), *trusted])
    os.environ.setdefault("LOCAL_RANK", str(getattr(args, "local_rank", 0)))
