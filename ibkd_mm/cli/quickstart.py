"""See in ten minutes what distillation brings, on generated images or on your own.

Trains a student with and without a teacher on images of which few are labelled, and compares both with the
teacher on a page. The same command continues an interrupted run.

examples:
  ibkd quickstart
  ibkd quickstart --data annotations.json --minutes 30
  ibkd quickstart --data images/ --teacher CONFIG --teacher-weights CHECKPOINT
"""

import signal
from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_trust


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd quickstart`."""
    add = parser.add_argument
    add("--out-dir", default="quickstart", help="folder for data, weights and the page (default: quickstart)")
    add("--minutes", type=float, default=10, help="time for everything (default: 10)")
    add("--data", metavar="PATH", help="COCO JSON, or a folder with one (default: generate Shapes)")
    add("--teacher", metavar="CONFIG", help="a Mask2Former for the same classes (default: one is trained)")
    add("--teacher-weights", metavar="FILE", help="checkpoint of that teacher")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Run the quickstart."""
    from ibkd_mm.quickstart import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the trainings as Ctrl-C does
    return run(args.out_dir, args.minutes, args.data, args.teacher, args.teacher_weights)
