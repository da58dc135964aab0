"""`ibkd COMMAND ...`: picks the module of that name in this folder and hands it the arguments."""

import sys
from collections.abc import Sequence
from importlib import import_module

# A command is a module beside this one with `main(argv) -> int`, and one line here.
COMMANDS = {
    "train": "train a model from a config",
    "check": "find what is wrong with images and annotations before training",
    "cache": "run a teacher once over the training pictures, for students to learn from",
    "test": "evaluate a checkpoint, draw or dump its predictions",
    "export": "write a student as ONNX or OpenVINO, and check that it finds the same",
    "replay": "run the step again at which a training stopped on numbers that are not finite",
    "doctor": "say whether the installation is sound, and what mends it",
    "publish": "write a checkpoint's weights alone, small and safe to give away",
    "benchmark": "time models beside each other, in PyTorch, ONNX Runtime or OpenVINO",
    "report": "tell on a page whether distillation helped",
    "quickstart": "see in ten minutes what distillation brings, on made pictures or on your own",
}

# Commands whose module has another name.
_MODULES = {"cache": "cache_teacher", "check": "check_dataset"}

_REFUSED = 2


def module_of(command: str) -> str:
    """Name the module that runs a command."""
    return f"ibkd_tools.{_MODULES.get(command, command)}"


def usage() -> str:
    """Tell what `ibkd --help` prints."""
    lines = [f"  {name:<12}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ibkd COMMAND [arguments]",
            "",
            "Distil large segmentation models into small real-time ones.",
            "",
            "commands:",
            *lines,
            "",
            "`ibkd COMMAND --help` tells a command's arguments; `ibkd --version` the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a fault of the program, 2 wrong input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else _REFUSED
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("ibkd_mm"))
        return 0
    return _run(arguments[0], arguments[1:])


def _run(command: str, arguments: list[str]) -> int:
    if command in COMMANDS:
        return int(import_module(module_of(command)).main(arguments))
    from difflib import get_close_matches

    near = get_close_matches(command, COMMANDS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    print(f"ibkd: no command '{command}'.{hint} There are: {', '.join(COMMANDS)}.", file=sys.stderr)
    return _REFUSED


if __name__ == "__main__":
    sys.exit(main())
