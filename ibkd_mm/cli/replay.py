"""Run again the step at which a training stopped on values that are not finite.

Shows which loss term, which module and which image it is.
"""

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd replay`."""
    parser.add_argument("file", help="work_dirs/name/non_finite_iter_N.replay, as the training named it")
    parser.add_argument("--config", help="config of the training (default: the one beside the file)")


def run(args: Namespace) -> object:
    """Replay."""
    from ibkd_mm.apis.replay import replay

    return replay(args.file, config=args.config)
