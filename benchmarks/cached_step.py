"""What a student's step costs with a teacher's cache, and what writing one costs, loading included.

    python benchmarks/cached_step.py BASELINE CACHED [--steps 12] [--rounds 5] [--workers 2]

BASELINE is the student's own config, CACHED the one that learns from the cache, which must be there. Both
are trained in turns; what their loaders fetched ahead while the other had its turn is used up before the
clock starts. Writing is timed beside the teacher's forward of the same pictures.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from ibkd_mm.apis.cache import build_predictor
from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.offline.build_cache import InstancePredictor, build_cache
from ibkd_mm.offline.images import TrainingSetImages, test_pipeline, training_dataset_config

AHEAD = 2
"""Batches that a worker fetches ahead."""


def endless(loader: Any) -> Iterator[Any]:
    """Give batches without end."""
    while True:
        yield from loader


def training(path: str, batch: int | None, workers: int) -> tuple[Config, Callable[[], float]]:
    """Make a config's training; give a function that takes a step and says how long it and its batch took."""
    options: dict[str, Any] = {"train_dataloader.num_workers": workers}
    if batch:
        options["train_dataloader.batch_size"] = batch
    with TemporaryDirectory() as folder:
        runner = build_runner(prepare(path, "training", options, folder, "none"), "load_from")
    settings = {**runner.cfg.train_dataloader, "persistent_workers": workers > 0}
    if workers:
        settings["prefetch_factor"] = AHEAD
    source = endless(runner.build_dataloader(settings, seed=0))
    model: Any = runner.model.train()
    wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)

    def step() -> float:
        began = time.perf_counter()
        model.train_step(next(source), wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return runner.cfg, step


def seconds_of(work: Callable[[], Any]) -> float:
    """Say how long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def writing(run: InstancePredictor, pictures: TrainingSetImages, size: int, folder: str) -> Callable[[], Any]:
    """Write a cache of the pictures, from reading them to the file."""
    files = (Path(folder) / f"{number}.sqlite" for number in range(10**6))
    return lambda: list(build_cache(run, pictures, next(files), {}, batch_size=size, workers=0))


def forwards(run: InstancePredictor, batches: list[Any]) -> Callable[[], Any]:
    """Run the teacher over batches that lie ready."""
    ready = [run.preprocessor(batch, False) for batch in batches]

    @torch.no_grad()
    def work() -> None:
        for data in ready:
            run.teacher.forward(data["inputs"], data["data_samples"])

    return work


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("baseline")
    parser.add_argument("cached")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int)
    args = parser.parse_args()
    steps = {name: training(getattr(args, name), args.batch, args.workers) for name in ("baseline", "cached")}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(args.rounds + 1):
        for name, (_, step) in steps.items():
            for _ in range(args.workers * AHEAD):
                step()
            taken = [step() for _ in range(args.steps)]
            times[name] += taken if turn else []  # the first round warms up
    print(
        f"{torch.get_num_threads()} threads, {args.workers} workers, torch {torch.__version__}, {args.cached}"
    )
    for name, seconds in times.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        middle = statistics.median(seconds) * 1e3
        print(f"{name:20s}{middle:9.1f} ms a step  ({low * 1e3:.1f} to {high * 1e3:.1f})")
    ratio = statistics.mean(times["cached"]) / statistics.mean(times["baseline"])
    print(f"a cached step takes {ratio:.2f} of the student's own (means)")

    config = steps["cached"][0]
    run, size = build_predictor(config), config.teacher_cache.batch_size
    pictures = TrainingSetImages(training_dataset_config(config), test_pipeline(config))
    pictures.keys = pictures.keys[: args.steps * size]
    batches = [
        pseudo_collate([pictures[index] for index in range(at, at + size)])
        for at in range(0, len(pictures), size)
    ]
    with TemporaryDirectory() as folder:
        works = {
            "teacher's forward": forwards(run, batches),
            "cache written": writing(run, pictures, size, folder),
        }
        taken_by: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(args.rounds):
            for name, work in works.items():
                taken_by[name].append(seconds_of(work))
    for name, seconds in taken_by.items():
        print(f"{name:20s}{len(pictures) / statistics.median(seconds):9.1f} pictures a second")
    share = statistics.mean(taken_by["teacher's forward"]) / statistics.mean(taken_by["cache written"])
    print(f"the cache is written at {share:.2f} of the forward's speed (means)")


if __name__ == "__main__":
    main()
