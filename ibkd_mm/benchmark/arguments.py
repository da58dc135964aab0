"""Check the arguments of a benchmark before it reads anything."""

from pathlib import Path

import torch

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings
from ibkd_mm.errors import UserError


def check_arguments(settings: BenchmarkSettings, rounds: int, warmup: int, out: str | None) -> None:
    """Raise UserError for numbers below their minimum, a missing GPU, or an output that cannot be written."""
    minimums = {
        "--batch": (settings.batch, 1),
        "--threads": (settings.threads, 1),
        "--rounds": (rounds, 1),
        "--warmup": (warmup, 0),
        "--size": (min(settings.size or (1,)), 1),
    }
    for name, (found, minimum) in minimums.items():
        if found < minimum:
            raise UserError(f"Expected {name} of {minimum} or more, found {found}.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda needs a GPU that PyTorch can use, and there is none. `ibkd doctor` shows why."
        )
    if out is not None and (Path(out).suffix != ".json" or not Path(out).absolute().parent.is_dir()):
        raise UserError(
            f"--out writes JSON: expected a name ending in .json in a folder that exists, found {out}."
        )
