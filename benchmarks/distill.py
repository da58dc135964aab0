"""Measure what distillation adds to a training step: the student alone, the teacher alone, and both.

    python benchmarks/distill.py CONFIG [--steps 5] [--rounds 5] [--batch N]

The three are interleaved, in the config's own precision. A distillation step, with the losses whose weight is
not 0, is compared with the teacher's forward, as far as its recorders need it, plus the student's own step.
The batches are the config's own and are loaded before the measurement.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.optim import OptimWrapper

from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.distill import FrozenTeacherDistill


def measure(work: Callable[[Any], Any], batches: list[Any]) -> list[float]:
    """Return the seconds for each batch, including the work of a GPU."""
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        work(batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def make_parts(model: FrozenTeacherDistill, wrapper: OptimWrapper) -> dict[str, Callable[[Any], Any]]:
    """Return the functions to time; each takes a batch from the loader."""

    def run_teacher(batch: Any) -> None:
        data = model.data_preprocessor(batch, True)
        with wrapper.optim_context(model), model.distiller.teacher_recorders:
            model.frozen.forward(data["inputs"], data["data_samples"])

    def train_student(batch: Any) -> None:
        factors = model.distiller.factors
        model.distiller.factors = dict.fromkeys(factors, 0.0)
        model.train_step(batch, wrapper)
        model.distiller.factors = factors

    return {
        "teacher's forward": run_teacher,
        "student's step": train_student,
        "distillation step": lambda batch: model.train_step(batch, wrapper),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="batch size (default: the config's)")
    args = parser.parse_args()
    options = {"train_dataloader.batch_size": args.batch} if args.batch else {}
    with TemporaryDirectory() as folder:
        runner = build_runner(prepare(args.config, "training", options, folder, "none"), "load_from")
    model: Any = runner.model.train()
    parts = make_parts(model, runner.build_optim_wrapper(runner.cfg.optim_wrapper))
    batches = list(islice(runner.build_dataloader(runner.cfg.train_dataloader, seed=0), args.steps))
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(args.rounds + 1):
        for name, work in parts.items():
            seconds = measure(work, batches)
            times[name] += seconds if turn else []  # the first round is a warm-up
    teacher, student, both = (statistics.median(times[name]) for name in parts)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.config}")
    for name, seconds in times.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        print(f"{name:20s}{statistics.median(seconds) * 1e3:9.1f} ms   ({low * 1e3:.1f} to {high * 1e3:.1f})")
    print(f"(distillation step - teacher's forward) / student's step: {(both - teacher) / student:.2f}")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
