"""Show on a page whether distillation helped.

Compares trainings with and without a teacher. A WORK_DIR is what `ibkd train` left. Those that differ in their
seed alone count as one training with several seeds; those without a teacher are the baseline.

example: ibkd report work_dirs/baseline_0 work_dirs/baseline_1 work_dirs/distilled_0 work_dirs/distilled_1
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_trust


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd report`."""
    add = parser.add_argument
    add("work_dirs", nargs="+", metavar="WORK_DIR", help="of a training, finished or running")
    add("--out-dir", default="report", help="folder for the page and its files (default: report)")
    add(
        "--unequal",
        action="store_true",
        help="compare trainings that differ in more than the teacher; the page says so",
    )
    add("--no-evaluate", action="store_true", help="run no model; leave out what is not in the logs")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Report."""
    from ibkd_mm.apis.report import report

    return report(args.work_dirs, out_dir=args.out_dir, unequal=args.unequal, evaluate=not args.no_evaluate)
