"""Run a teacher over the training pictures once: `ibkd cache CONFIG`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_config, add_launcher, add_trust, answer, new_parser

_ABOUT = """Run the teacher of a distillation's CONFIG once over its training pictures, as they lie on the
disk, and write what it sees into one file, from which students are then trained without it. Stopped and
started again, it goes on.

examples:
  ibkd cache CONFIG
  ibkd cache CONFIG --images pictures/ --out pictures.sqlite
  ibkd cache CONFIG --verify 20
  ibkd cache --info teacher.sqlite"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd cache`."""
    made = new_parser("cache", _ABOUT)
    add_config(made, optional=True)  # --info needs none
    made.add_argument("--out", metavar="FILE", help="default: the config's teacher_cache.path")
    made.add_argument("--images", metavar="FOLDER", help="pictures without labels, in place of the data")
    made.add_argument("--verify", type=int, default=0, metavar="N", help="run N pictures again and compare")
    made.add_argument("--info", metavar="FILE", help="tell what is in a cache, and do nothing else")
    add_launcher(made)
    add_trust(made)
    return made


def _cache(args: Namespace) -> object:
    from ibkd_mm.apis.cache import cache, cache_info
    from ibkd_mm.errors import UserError

    if args.info:
        return cache_info(args.info)
    if not args.config:
        raise UserError("Expected a CONFIG whose teacher is to be run, or --info FILE.")
    return cache(
        args.config,
        options=args.cfg_options,
        out=args.out,
        images=args.images,
        launcher=args.launcher,
        check=args.verify,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Cache from the command line and return the exit code."""
    return answer(_cache, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
