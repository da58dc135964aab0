"""Write the weights of a checkpoint alone, as half-precision safetensors."""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_trust


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd publish`."""
    parser.add_argument("checkpoint", help="a checkpoint of a training")
    parser.add_argument("out", help="the file to write, ending in .safetensors")
    parser.add_argument("--full-precision", action="store_true", help="keep the weights as they are")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Publish."""
    from ibkd_mm.apis.publish import publish

    return publish(args.checkpoint, args.out, half=not args.full_precision)
