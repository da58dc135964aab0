"""See it work in a few minutes: `ibkd quickstart`, or `python tools/quickstart.py`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import answer, new_parser


def parser() -> ArgumentParser:
    """Build the parser of `ibkd quickstart`."""
    made = new_parser(
        "quickstart", "Make data, train a small model, and set it beside the shipped teacher on a page."
    )
    made.add_argument("--out-dir", default="quickstart", help="folder for data, weights and the page")
    made.add_argument("--seconds", type=int, default=120, help="how long to train")
    made.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return made


def _quickstart(args: Namespace) -> None:
    from ibkd_mm.apis.quickstart import run

    run(args.out_dir, args.seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the quickstart from the command line and return the exit code."""
    return answer(_quickstart, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
