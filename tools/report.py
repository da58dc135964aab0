"""Tell whether distillation helped: `ibkd report WORK_DIR ...`, or `python tools/report.py WORK_DIR ...`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_trust, answer, new_parser

_ABOUT = """Compare trainings with and without a teacher, and write a page about them.

A WORK_DIR is what `ibkd train` left. Those that differ in their seed alone count as one training with
several seeds; those without a teacher are what the others are compared with.

example: ibkd report work_dirs/baseline_0 work_dirs/baseline_1 work_dirs/distilled_0 work_dirs/distilled_1"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd report`."""
    made = new_parser("report", _ABOUT)
    add = made.add_argument
    add("work_dirs", nargs="+", metavar="WORK_DIR", help="of a training, finished or running")
    add("--out-dir", default="report", help="folder for the page and what belongs to it (default: report)")
    add(
        "--unequal",
        action="store_true",
        help="compare what differs in more than the teacher; the page says so",
    )
    add("--no-evaluate", action="store_true", help="leave out what is not in the logs; runs no model")
    add_trust(made)
    add("--debug", action="store_true", help="show the traceback of every error")
    return made


def _report(args: Namespace) -> object:
    from ibkd_mm.apis.report import report

    return report(args.work_dirs, out_dir=args.out_dir, unequal=args.unequal, evaluate=not args.no_evaluate)


def main(argv: Sequence[str] | None = None) -> int:
    """Report from the command line and return the exit code."""
    return answer(_report, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
