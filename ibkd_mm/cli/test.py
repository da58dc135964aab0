"""Evaluate a checkpoint with the model and the test data that a config describes.

examples:
  ibkd test CONFIG work_dirs/name/iter_600.pth
  ibkd test CONFIG CHECKPOINT --show-dir images     draw the predictions
  ibkd test CONFIG CHECKPOINT --out results.pkl     save the predictions
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_run, select


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd test`."""
    add_run(parser)
    add = parser.add_argument
    add("checkpoint", help=".pth or .safetensors file, URL, or weights that ship: ibkd_mm::NAME")
    add("--out", metavar="FILE.pkl", help="write the predictions to this file")
    add("--show", action="store_true", help="show each image with its predictions in a window")
    add("--show-dir", help="draw predictions into this folder (relative: below the work dir's run)")
    add("--wait-time", type=float, default=2, help="seconds between images with --show")
    add("--tta", action="store_true", help="test-time augmentation, the config's or flipping")


def run(args: Namespace) -> object:
    """Evaluate."""
    from ibkd_mm.apis.test import test

    chosen = select(args, "work_dir", "out", "show", "show_dir", "wait_time", "tta", "launcher")
    return test(args.config, args.checkpoint, options=args.cfg_options, **chosen)
