"""Time models side by side, in PyTorch, ONNX Runtime or OpenVINO.

Also shows their parameters, FLOPs and memory. A MODEL is an .onnx file, an OpenVINO .xml file, or for PyTorch
CONFIG or CONFIG,WEIGHTS.

example: ibkd benchmark student.onnx student.xml CONFIG,CHECKPOINT --size 640 640 --out table.json
"""

from argparse import ArgumentParser, Namespace

from ibkd_mm.cli._arguments import add_trust, select


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `ibkd benchmark`."""
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="the others are compared with the first")
    add("--size", nargs=2, type=int, metavar=("H", "W"), help="input size (default: each model's own)")
    add("--batch", type=int, default=1, help="images per forward pass (default: 1)")
    add("--rounds", type=int, default=50, help="timed runs of each model (default: 50)")
    add("--warmup", type=int, default=5, help="runs before the timed ones (default: 5)")
    add("--threads", type=int, help="threads of each runtime (default: all cores)")
    add("--score", type=float, help="minimum score of an instance (default: each model's own)")
    add("--image", metavar="FILE", help="image to run on (default: a generated one)")
    add("--out", metavar="FILE.json", help="write the table and all timings")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--no-memory", action="store_true", help="skip memory, whose measurement starts a process per model")
    add_trust(parser)


def run(args: Namespace) -> object:
    """Benchmark."""
    from ibkd_mm.apis.benchmark import benchmark

    return benchmark(
        args.models,
        size=tuple(args.size) if args.size else None,
        thread_count=args.threads,
        memory=not args.no_memory,
        **select(args, "batch", "rounds", "warmup", "score", "image", "out", "device"),
    )
