"""Time models beside each other: `ibkd benchmark MODEL ...`, or `python tools/benchmark.py MODEL ...`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ibkd_tools.arguments import add_trust, answer, new_parser

_ABOUT = """Time models beside each other, and tell their parameters, FLOPs and memory.

A MODEL is any .onnx file, an .xml file of OpenVINO, or for PyTorch CONFIG or CONFIG,WEIGHTS.

example: ibkd benchmark student.onnx student.xml CONFIG,CHECKPOINT --size 640 640 --out table.json"""


def parser() -> ArgumentParser:
    """Build the parser of `ibkd benchmark`."""
    made = new_parser("benchmark", _ABOUT)
    add = made.add_argument
    add("models", nargs="+", metavar="MODEL", help="the first is what the others are compared with")
    add("--size", nargs=2, type=int, metavar=("H", "W"), help="of the input (default: each model's own)")
    add("--batch", type=int, default=1, help="pictures in a forward pass (default: 1)")
    add("--rounds", type=int, default=50, help="how often each is timed (default: 50)")
    add("--warmup", type=int, default=5, help="rounds before these (default: 5)")
    add("--threads", type=int, help="for each runtime (default: all cores)")
    add("--score", type=float, help="least score of an instance (default: each model's own)")
    add("--image", metavar="FILE", help="the picture (default: one is drawn)")
    add("--out", metavar="FILE.json", help="write the table and all that was timed")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="what runs them (default: cpu)")
    add("--no-memory", action="store_true", help="leave it out, as it takes a process for each model")
    add_trust(made)
    add("--debug", action="store_true", help="show the traceback of every error")
    return made


def _benchmark(args: Namespace) -> object:
    from ibkd_mm.apis.benchmark import benchmark

    return benchmark(
        args.models,
        size=tuple(args.size) if args.size else None,
        **{name: getattr(args, name) for name in ("batch", "rounds", "warmup", "score", "image", "out")},
        thread_count=args.threads,
        device=args.device,
        memory=not args.no_memory,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Time from the command line and return the exit code."""
    return answer(_benchmark, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
