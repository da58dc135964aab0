"""Run the step again at which a training stopped: `ibkd replay FILE`, or `python tools/replay.py FILE`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import answer, new_parser


def parser() -> ArgumentParser:
    """Build the parser of `ibkd replay`."""
    made = new_parser(
        "replay",
        "Run the step again at which a training stopped, and show which loss term, module and picture it is.",
    )
    made.add_argument("file", help="work_dirs/name/non_finite_iter_N.replay, as the training named it")
    made.add_argument("--config", help="config of the training (default: the one beside the file)")
    made.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return made


def _replay(args: Namespace) -> object:
    from ibkd_mm.apis.replay import replay

    return replay(args.file, config=args.config)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay from the command line and return the exit code."""
    return answer(_replay, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
