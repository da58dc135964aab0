"""Run a teacher once over the training images and save its predictions in a file.

Runs the teacher of a distillation CONFIG over the training images without augmentation. With that file a
student trains nearly as fast as without a teacher. The same command continues an interrupted run.

examples:
  ibkd cache configs/ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_cached.py
  ibkd cache CONFIG --images folder/ --out folder.sqlite
  ibkd cache --info teacher.sqlite
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_config, add_launcher, add_trust, select
from ibkd_mm.errors import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd cache`."""
    add_config(parser, optional=True)  # --info needs none
    add = parser.add_argument
    add("--out", metavar="FILE", help="default: the config's teacher_cache.path")
    add("--images", metavar="FOLDER", help="images to use instead of the training set")
    add("--verify", type=int, default=0, metavar="N", help="run the teacher on N images again and compare")
    add("--info", metavar="FILE", help="only describe a cache")
    add_launcher(parser)
    add_trust(parser)


def run(args: Namespace) -> object:
    """Write, verify or describe a cache."""
    from ibkd_mm.apis.cache import cache
    from ibkd_mm.offline.info import cache_info

    if args.info:
        return cache_info(args.info)
    if not args.config:
        raise UserError("Expected a CONFIG with a teacher to run, or --info FILE.")
    chosen = select(args, "out", "images", "launcher")
    return cache(args.config, options=args.cfg_options, check=args.verify, **chosen)
