"""What distillation costs of a step: the student alone, its teacher alone, both with their losses.

    python benchmarks/distill.py CONFIG [--steps 5] [--rounds 5] [--batch N]

The three are interleaved, in the config's own precision. A distillation step, with the losses that count in
the config, is compared with the teacher's forward, as far as its recorders ask, plus the student's own step.
Batches are the config's own, loaded beforehand.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.distill import FrozenTeacherDistill


def batches(runner: Runner, count: int) -> list[Any]:
    """Load some batches and preprocess them as the model does."""
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=0)
    source = iter(loader)
    return [next(source) for _ in range(count)]


def timed(work: Callable[[Any], Any], given: list[Any]) -> list[float]:
    """Return the seconds that each takes, waiting for a GPU where there is one."""
    seconds = []
    for each in given:
        began = time.perf_counter()
        work(each)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds


def parts(model: FrozenTeacherDistill, wrapper: OptimWrapper) -> dict[str, Callable[[Any], Any]]:
    """Give what is timed, each from a batch as loaded."""

    def teacher(batch: Any) -> None:
        data = model.data_preprocessor(batch, True)
        with wrapper.optim_context(model), model.distiller.teacher_recorders:
            model.frozen.forward(data["inputs"], data["data_samples"])

    def alone(batch: Any) -> None:
        factors = model.distiller.factors
        kept, model.distiller.factors = factors, dict.fromkeys(factors, 0.0)
        model.train_step(batch, wrapper)
        model.distiller.factors = kept

    return {
        "teacher's forward": teacher,
        "student's step": alone,
        "distillation step": lambda batch: model.train_step(batch, wrapper),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int)
    args = parser.parse_args()
    options = {"train_dataloader.batch_size": args.batch} if args.batch else {}
    with TemporaryDirectory() as folder:
        runner = build_runner(prepare(args.config, "training", options, folder, "none"), "load_from")
    model: Any = runner.model.train()
    wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    given = batches(runner, args.steps)
    work = parts(model, wrapper)
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(args.rounds + 1):
        for name, each in work.items():
            seconds = timed(each, given)
            times[name] += seconds if turn else []  # the first round warms up
    teacher, alone, both = (statistics.median(times[name]) for name in work)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.config}")
    for name, seconds in times.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        print(f"{name:20s}{statistics.median(seconds) * 1e3:9.1f} ms   ({low * 1e3:.1f} to {high * 1e3:.1f})")
    print(f"beyond the teacher, a distillation step is {(both - teacher) / alone:.2f} of the student's own")
    print(f"most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
