"""Write only the weights of a checkpoint, as half-precision safetensors."""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_trust


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd publish`."""
    parser.add_argument("checkpoint", help="checkpoint of a training")
    parser.add_argument("out", help="file to write, ending in .safetensors")
    parser.add_argument("--full-precision", action="store_true", help="do not convert to half precision")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Publish."""
    from ibkd_mm.apis.publish import publish

    return publish(args.checkpoint, args.out, half=not args.full_precision)
