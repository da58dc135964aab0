"""Evaluate a checkpoint: `ibkd test CONFIG CHECKPOINT`, or `python tools/test.py CONFIG CHECKPOINT`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_common, answer, new_parser

_ABOUT = """Evaluate CHECKPOINT with the model and the test data that CONFIG describes.

examples:
  ibkd test CONFIG work_dirs/name/iter_600.pth
  ibkd test CONFIG CHECKPOINT --show-dir pictures   draw the predictions
  ibkd test CONFIG CHECKPOINT --out results.pkl     keep the predictions"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd test`."""
    made = new_parser("test", _ABOUT)
    add_common(made)
    made.add_argument(
        "checkpoint", help=".pth or .safetensors file, URL, or weights that ship: ibkd_mm::NAME"
    )
    made.add_argument("--out", metavar="FILE.pkl", help="write the predictions to this file")
    made.add_argument(
        "--show", action="store_true", help="show each picture with its predictions in a window"
    )
    made.add_argument(
        "--show-dir", help="draw predictions into this folder (relative: below the work dir's run)"
    )
    made.add_argument("--wait-time", type=float, default=2, help="seconds between pictures with --show")
    made.add_argument("--tta", action="store_true", help="test-time augmentation, the config's or flipping")
    return made


def _test(args: Namespace) -> object:
    from ibkd_mm.apis.test import test

    return test(
        args.config,
        args.checkpoint,
        options=args.cfg_options,
        work_dir=args.work_dir,
        out=args.out,
        show=args.show,
        show_dir=args.show_dir,
        wait_time=args.wait_time,
        tta=args.tta,
        launcher=args.launcher,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate from the command line and return the exit code."""
    return answer(_test, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
