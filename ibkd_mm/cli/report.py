"""Show on a page whether distillation helped.

Compares trainings with and without a teacher. A WORK_DIR is a folder that `ibkd train` wrote. Trainings that
differ only in their seed are shown as one with several seeds; those without a teacher are the baseline.

example: ibkd report work_dirs/baseline_0 work_dirs/baseline_1 work_dirs/distilled_0 work_dirs/distilled_1
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_trust


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd report`."""
    add = parser.add_argument
    add("work_dirs", nargs="+", metavar="WORK_DIR", help="work dir of a training, finished or running")
    add("--out-dir", default="report", help="folder for the page and its files (default: report)")
    help_unequal = "compare trainings that differ in more than the teacher; the page shows the differences"
    add("--unequal", action="store_true", help=help_unequal)
    add("--no-evaluate", action="store_true", help="run no model; leave out figures that are not in the logs")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Report."""
    from ibkd_mm.apis.report import report

    return report(args.work_dirs, out_dir=args.out_dir, unequal=args.unequal, evaluate=not args.no_evaluate)
