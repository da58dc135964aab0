"""What the commands share: arguments, and how an error becomes an exit code. Standard library only."""

import os
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

FAULT, USER_ERROR, INTERRUPTED = 1, 2, 130
TRUST = "IBKD_TRUST_CHECKPOINT"
LAUNCHERS = ("none", "pytorch", "slurm", "mpi")

_OPTIONS_HELP = (
    "override settings of the config: key.of.setting=value; lists as key=1,2 or key='[1,2]', an element of a "
    "list as key.0.name=value"
)


def new_parser(command: str, description: str) -> ArgumentParser:
    """Make a parser that names itself `ibkd COMMAND` however it was started."""
    return ArgumentParser(
        prog=f"ibkd {command}",
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_config(parser: ArgumentParser, *, optional: bool = False) -> None:
    """Add the arguments that every command which reads a config has."""
    parser.add_argument(
        "config",
        nargs="?" if optional else None,
        help="config file, or one inside a package: mmdet::folder/name.py, ibkd_mm::...",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        type=_option,
        default=[],
        metavar="KEY=VALUE",
        help=_OPTIONS_HELP,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")


def add_common(parser: ArgumentParser) -> None:
    """Add the arguments that every command which runs a config has."""
    add_config(parser)
    parser.add_argument(
        "--work-dir", help="folder for logs and checkpoints (default: ./work_dirs/<config name>)"
    )
    add_launcher(parser)
    add_trust(parser)


def add_launcher(parser: ArgumentParser) -> None:
    """Add what a command that several processes run takes from whoever started them."""
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="none", help="how the processes were started"
    )
    parser.add_argument(
        "--local-rank", "--local_rank", type=int, default=0, help="set by old launchers; leave it"
    )


def add_trust(parser: ArgumentParser) -> None:
    """Add the switch that lets the code in a refused checkpoint run."""
    parser.add_argument(
        "--trust-checkpoint",
        action="append",
        type=_file,
        default=[],
        metavar="PATH",
        help=f"let the code in this very file run where it is refused ({TRUST}=PATH does too); repeatable",
    )


def _file(text: str) -> str:
    path = Path(text).expanduser().resolve()
    if not path.is_file() or os.pathsep in str(path):
        raise ArgumentTypeError(f"expected a file, without '{os.pathsep}' in its path, found '{text}'")
    return str(path)


def _option(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise ArgumentTypeError(f"expected KEY=VALUE, found '{text}'")
    return text


def answer(command: Callable[[Namespace], object], parser: ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, run and print the result, whose `exit_code` counts; wrong input is a message and exit code 2."""
    args = parser.parse_args(argv)
    # Threads that wait by spinning take the cores from data loaders and from other runs: on two shared cores
    # a training step costs up to three times the processor time. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    trusted = getattr(args, "trust_checkpoint", [])
    if trusted:  # in the environment, so that every process started from here has it
        os.environ[TRUST] = os.pathsep.join([*filter(None, [os.environ.get(TRUST)]), *trusted])
    os.environ.setdefault("LOCAL_RANK", str(getattr(args, "local_rank", 0)))
    try:
        result = command(args)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not _is_users(error) and not _is_broken_installation(error):
            raise
        if getattr(args, "debug", False):
            traceback.print_exc()
        if not _is_users(error):
            print(
                f"{parser.prog}: error: {error}\n`ibkd doctor` tells what is wrong and what mends it.",
                file=sys.stderr,
            )
            return FAULT
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return USER_ERROR
    if result is not None and os.environ.get("RANK", "0") == "0":  # one process reports for all
        print(result)
    return int(getattr(result, "exit_code", 0))


def _is_users(error: Exception) -> bool:
    """Tell by name, so that nothing is imported for it: the package may be what is broken."""
    return any(
        kind.__module__ == "ibkd_mm.errors" and kind.__name__ == "UserError" for kind in type(error).__mro__
    )


def _is_broken_installation(error: Exception) -> bool:
    """Python forgets a package whose import failed."""
    return isinstance(error, ImportError) and "ibkd_mm" not in sys.modules
