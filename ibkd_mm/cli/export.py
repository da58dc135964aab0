"""Export a student as ONNX or OpenVINO, and check that it predicts the same.

Writes the model of CHECKPOINT, from pixels to instances, as ONNX (OUT.onnx) or as OpenVINO files (OUT.xml).
The file gets its name only after its predictions were compared with the model's.

examples:
  ibkd export CONFIG CHECKPOINT student.onnx
  ibkd export CONFIG CHECKPOINT student.onnx --dynamic --runtime
  ibkd export CONFIG CHECKPOINT student.onnx --int8 200
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_config, add_trust, select


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd export`."""
    add_config(parser)
    add = parser.add_argument
    add("checkpoint", help=".pth or .safetensors file, URL, or weights that ship: ibkd_mm::NAME")
    add("out", help="file to write, ending in .onnx or .xml")
    add("--size", nargs=2, type=int, metavar=("H", "W"), help="default: that of the test pipeline")
    add("--batch", type=int, default=1, help="images per batch")
    add("--dynamic", action="store_true", help="dynamic batch size, height and width")
    add("--half", action="store_true", help="export the network in half precision")
    add("--int8", type=int, default=0, metavar="N", help="quantise, calibrated on N training images")
    add("--max-instances", type=int, metavar="N", help="maximum instances per image (default: 100)")
    add("--no-check", dest="check", action="store_false", help="skip the comparison with the model")
    add("--check-images", type=int, metavar="N", help="default: 16; for int8 200")
    add("--runtime", action="store_true", help="also write runtime.py, which runs the file, beside it")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Export."""
    from ibkd_mm.apis.export import ExportSettings, export

    names = ("batch", "dynamic", "half", "int8", "max_instances", "check", "check_images", "runtime")
    settings = ExportSettings(size=tuple(args.size) if args.size else None, **select(args, *names))
    return export(args.config, args.checkpoint, args.out, options=args.cfg_options, settings=settings)
