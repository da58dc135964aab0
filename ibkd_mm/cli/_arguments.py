"""Arguments that several commands share."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

TRUST = "IBKD_TRUST_CHECKPOINT"


def add_config(parser: ArgumentParser, *, optional: bool = False) -> None:
    """Add the config and the options that override it."""
    add = parser.add_argument
    text = "config file, or one in a package: mmdet::folder/name.py, ibkd_mm::..."
    add("config", nargs="?" if optional else None, help=text)
    text = "override settings of the config: key.of.setting=value; lists as key=1,2 or key='[1,2]', an "
    text += "element of a list as key.0.name=value"
    add("--cfg-options", nargs="+", action="extend", type=_option, default=[], metavar="KEY=VALUE", help=text)


def add_run(parser: ArgumentParser) -> None:
    """Add the arguments of commands that run a config."""
    add_config(parser)
    text = "folder for logs and checkpoints (default: ./work_dirs/<config name>)"
    parser.add_argument("--work-dir", help=text)
    add_launcher(parser)
    add_trust(parser)


def add_launcher(parser: ArgumentParser) -> None:
    """Add the arguments of commands that run as several processes."""
    add = parser.add_argument
    launchers = "none", "pytorch", "slurm", "mpi"
    add("--launcher", choices=launchers, default="none", help="how the processes were started")
    add("--local-rank", "--local_rank", type=int, default=0, help="set by old launchers")


def add_trust(parser: ArgumentParser) -> None:
    """Add the option that lets the code in a checkpoint run."""
    add = parser.add_argument
    text = f"let the code in this checkpoint run if it is refused ({TRUST}=PATH does the same); repeatable"
    add("--trust-checkpoint", action="append", type=_file, default=[], metavar="PATH", help=text)


def select(args: Namespace, *names: str) -> dict[str, Any]:
    """Return the arguments of these names."""
    return {name: getattr(args, name) for name in names}


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
