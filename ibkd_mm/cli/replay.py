"""Repeat the step at which a training stopped because of NaN or infinite values.

Shows in which loss term, module and image they occur first.
"""

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd replay`."""
    parser.add_argument("file", help="work_dirs/name/non_finite_iter_N.replay; the training's error names it")
    parser.add_argument("--config", help="config of the training (default: the one beside the file)")


def run(args: Namespace) -> object:
    """Replay."""
    from ibkd_mm.apis.replay import replay

    return replay(args.file, config=args.config)
