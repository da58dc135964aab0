"""See in a few minutes what distillation brings: `ibkd quickstart`, or `python tools/quickstart.py`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_trust, answer, new_parser

_ABOUT = """Train a student by itself and from a teacher, on pictures of which few are labelled, and set both
beside the teacher on a page. Stopped and started again the same way, it goes on.

examples:
  ibkd quickstart
  ibkd quickstart --data annotations.json --minutes 30
  ibkd quickstart --data pictures/ --teacher CONFIG --teacher-weights CHECKPOINT"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd quickstart`."""
    made = new_parser("quickstart", _ABOUT)
    add = made.add_argument
    add("--out-dir", default="quickstart", help="folder for data, weights and the page (default: quickstart)")
    add("--minutes", type=float, default=10, help="for the whole (default: 10)")
    add("--data", metavar="PATH", help="a COCO JSON, or a folder with one (default: Shapes are generated)")
    add("--teacher", metavar="CONFIG", help="of a Mask2Former for the same classes (default: one is trained)")
    add("--teacher-weights", metavar="FILE", help="checkpoint of that teacher")
    add_trust(made)
    add("--debug", action="store_true", help="show the traceback of every error")
    return made


def _quickstart(args: Namespace) -> object:
    from ibkd_mm.apis.quickstart import run

    return run(args.out_dir, args.minutes, args.data, args.teacher, args.teacher_weights)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the quickstart from the command line and return the exit code."""
    return answer(_quickstart, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
