"""Make weights ready to be given away: `ibkd publish`, or `python tools/publish.py`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_trust, answer, new_parser


def parser() -> ArgumentParser:
    """Build the parser of `ibkd publish`."""
    made = new_parser("publish", "Write the weights of a checkpoint alone, as half-precision safetensors.")
    made.add_argument("checkpoint", help="a checkpoint of a training")
    made.add_argument("out", help="the file to write, ending in .safetensors")
    made.add_argument("--full-precision", action="store_true", help="keep the weights as they are")
    add_trust(made)
    made.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return made


def _publish(args: Namespace) -> object:
    from ibkd_mm.apis import publish

    return publish(args.checkpoint, args.out, half=not args.full_precision)


def main(argv: Sequence[str] | None = None) -> int:
    """Publish from the command line and return the exit code."""
    return answer(_publish, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
