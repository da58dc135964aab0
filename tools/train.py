"""Train a model: `ibkd train CONFIG`, or `python tools/train.py CONFIG`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_common, answer, new_parser

_ABOUT = """Train the model that CONFIG describes.

examples:
  ibkd train configs/mask_rcnn/mask_rcnn_r18_fpn_shapes.py
  ibkd train CONFIG --resume                        go on from the last checkpoint in the work dir
  ibkd train CONFIG --cfg-options train_dataloader.batch_size=4 randomness.seed=1
  torchrun --nproc_per_node 4 tools/train.py CONFIG --launcher pytorch"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd train`."""
    made = new_parser("train", _ABOUT)
    add_common(made)
    made.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="go on from a checkpoint; alone or as 'auto': from the last one in the work dir",
    )
    made.add_argument("--amp", action="store_true", help="automatic mixed precision")
    made.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate from the config's base batch size to ours",
    )
    return made


def _train(args: Namespace) -> object:
    from ibkd_mm.apis.train import train

    return train(
        args.config,
        options=args.cfg_options,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        launcher=args.launcher,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line and return the exit code."""
    return answer(_train, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
