"""Train the model that a config describes.

examples:
  ibkd train configs/mask_rcnn/mask_rcnn_r18_fpn_shapes.py
  ibkd train CONFIG --resume                        continue from the last checkpoint in the work dir
  ibkd train CONFIG --cfg-options train_dataloader.batch_size=4 randomness.seed=1
  torchrun --nproc_per_node 4 tools/train.py CONFIG --launcher pytorch
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_run, select


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd train`."""
    add_run(parser)
    add = parser.add_argument
    resume = "continue from a checkpoint; without a value or with 'auto' from the last one in the work dir"
    add("--resume", nargs="?", const="auto", metavar="auto|PATH", help=resume)
    add("--amp", action="store_true", help="automatic mixed precision")
    scale = "scale the learning rate from the config's base batch size to the actual one"
    add("--auto-scale-lr", action="store_true", help=scale)


def run(args: Namespace) -> object:
    """Train."""
    from ibkd_mm.apis.train import train

    chosen = select(args, "work_dir", "resume", "amp", "auto_scale_lr", "launcher")
    return train(args.config, options=args.cfg_options, **chosen)
