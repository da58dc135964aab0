"""Check the data before training: `ibkd check CONFIG`, or `python tools/check_dataset.py CONFIG`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_config, answer, new_parser

_ABOUT = """Read every image and annotation that CONFIG trains and tests on, and tell what is wrong with them.

Errors stop a training or let it learn something wrong; warnings cost data; notes are to be known. The exit
code is 1 where there is an error, 0 where there is none, 2 for wrong input.

examples:
  ibkd check CONFIG
  ibkd check CONFIG --json findings.json            keep everything, not only the first examples"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd check`."""
    made = new_parser("check", _ABOUT)
    add_config(made)
    made.add_argument("--workers", type=int, help="processes that read images (default: one a core)")
    made.add_argument("--json", metavar="FILE", help="write everything that was found to this file")
    return made


def _check(args: Namespace) -> object:
    from ibkd_mm.apis.check import check

    return check(args.config, options=args.cfg_options, workers=args.workers, json_file=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    """Check from the command line and return the exit code."""
    return answer(_check, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
