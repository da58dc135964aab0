"""Write a student as a file that runs without PyTorch: `ibkd export CONFIG CHECKPOINT OUT.onnx`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_config, add_trust, answer, new_parser

_ABOUT = """Write the student of CHECKPOINT as ONNX (OUT.onnx) or as OpenVINO's files (OUT.xml), from pixels
to instances, and check that it finds what the model finds.

examples:
  ibkd export CONFIG CHECKPOINT student.onnx
  ibkd export CONFIG CHECKPOINT student.onnx --dynamic --runtime
  ibkd export CONFIG CHECKPOINT student.onnx --int8 200"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd export`."""
    made = new_parser("export", _ABOUT)
    add_config(made)
    made.add_argument("checkpoint", help=".pth or .safetensors file, URL, or shipped weights: ibkd_mm::NAME")
    made.add_argument("out", help="the file to write, ending in .onnx or .xml")
    made.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="default: the test pipeline's")
    made.add_argument("--batch", type=int, default=1, help="pictures at a time")
    made.add_argument("--dynamic", action="store_true", help="leave batch, height and width open")
    made.add_argument("--half", action="store_true", help="the network in half precision")
    made.add_argument("--int8", type=int, default=0, metavar="N", help="calibrate with N training pictures")
    made.add_argument("--max-instances", type=int, metavar="N", help="instances of a picture (default: 100)")
    made.add_argument("--no-check", dest="check", action="store_false", help="leave the check out")
    made.add_argument("--check-images", type=int, metavar="N", help="default: 16; for int8 200")
    made.add_argument("--runtime", action="store_true", help="write runtime.py, which runs it, beside it")
    add_trust(made)
    return made


def _export(args: Namespace) -> object:
    from ibkd_mm.apis.export import Settings, export

    names = ("batch", "dynamic", "half", "int8", "max_instances", "check", "check_images", "runtime")
    settings = Settings(
        size=tuple(args.size) if args.size else None, **{name: getattr(args, name) for name in names}
    )
    return export(args.config, args.checkpoint, args.out, options=args.cfg_options, settings=settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Export from the command line and return the exit code."""
    return answer(_export, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
