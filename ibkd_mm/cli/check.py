"""Find faults in the images and annotations of a config before training.

Reads every image and annotation that CONFIG trains and tests on. Errors stop a training or spoil its result;
warnings mean unused data; notes are information. The exit code is 1 if there is an error, 2 for wrong input.

examples:
  ibkd check CONFIG
  ibkd check CONFIG --json findings.json            save all findings, not only the first examples
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_config


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd check`."""
    add_config(parser)
    parser.add_argument("--workers", type=int, help="processes that read images (default: one for each core)")
    parser.add_argument("--json", metavar="FILE", help="write all findings to this file")


def run(args: Namespace) -> object:
    """Check."""
    from ibkd_mm.apis.check import check

    return check(args.config, options=args.cfg_options, workers=args.workers, json_file=args.json)
