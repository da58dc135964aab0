"""Show whether the installation works, and the command that fixes what does not."""

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def run(args: Namespace) -> object:
    """Examine the installation."""
    from ibkd_mm.stack.doctor import diagnose

    return diagnose(as_json=args.json)
