"""Measure a training step with a teacher cache and the writing of a cache, data loading included.

    python benchmarks/cached_step.py BASELINE CACHED [--steps 12] [--rounds 5] [--workers 2]

BASELINE is the config of the student alone, CACHED the config that learns from a cache, which must exist.
Both train in turns. Batches that the loader of one fetched during the other's turn are used up before it is
timed. Writing is compared with the teacher's forward on the same images.
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

from ibkd_mm.apis.cache_predictor import build_predictor
from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.offline.build_cache import build_cache
from ibkd_mm.offline.images import TrainingSetImages, test_pipeline, training_dataset_config

PREFETCH_FACTOR = 2


def repeat(loader: Any) -> Iterator[Any]:
    """Yield batches without end."""
    while True:
        yield from loader


def make_training(path: str, batch: int | None, workers: int) -> tuple[Config, Callable[[], float]]:
    """Build a config's training; return it and a function that trains a step and returns its seconds."""
    options: dict[str, Any] = {"train_dataloader.num_workers": workers}
    if batch:
        options["train_dataloader.batch_size"] = batch
    with TemporaryDirectory() as folder:
        runner = build_runner(prepare(path, "training", options, folder, "none"), "load_from")
    settings = {**runner.cfg.train_dataloader, "persistent_workers": workers > 0}
    if workers:
        settings["prefetch_factor"] = PREFETCH_FACTOR
    batches = repeat(runner.build_dataloader(settings, seed=0))
    model: Any = runner.model.train()
    wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)

    def step() -> float:
        start = time.perf_counter()
        model.train_step(next(batches), wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return runner.cfg, step


def measure(work: Callable[[], Any]) -> float:
    """Return the seconds that a function takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_writing(predictor: Any, images: TrainingSetImages, size: int, folder: str) -> Callable[[], Any]:
    """Return a function that writes a new cache of the images, from reading them to the file."""
    files = (Path(folder) / f"{number}.sqlite" for number in range(10**6))
    return lambda: list(build_cache(predictor, images, next(files), {}, batch_size=size, workers=0))


def make_forward(predictor: Any, batches: list[Any]) -> Callable[[], Any]:
    """Return a function that runs the teacher on batches that are in memory."""
    prepared = [predictor.preprocessor(batch, False) for batch in batches]

    @torch.no_grad()
    def work() -> None:
        for data in prepared:
            predictor.teacher.outputs(data["inputs"], data["data_samples"])

    return work


def measure_steps(
    trainings: dict[str, Callable[[], float]], steps: int, rounds: int, workers: int
) -> dict[str, list[float]]:
    """Return the seconds of each step of trainings that take turns."""
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for turn in range(rounds + 1):
        for name, step in trainings.items():
            for _ in range(workers * PREFETCH_FACTOR):
                step()
            seconds = [step() for _ in range(steps)]
            times[name] += seconds if turn else []  # the first round is a warm-up
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("baseline")
    parser.add_argument("cached")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, help="batch size (default: the configs')")
    args = parser.parse_args()
    _, baseline = make_training(args.baseline, args.batch, args.workers)
    config, cached = make_training(args.cached, args.batch, args.workers)
    times = measure_steps({"baseline": baseline, "cached": cached}, args.steps, args.rounds, args.workers)
    print(
        f"{torch.get_num_threads()} threads, {args.workers} workers, torch {torch.__version__}, {args.cached}"
    )
    for name, seconds in times.items():
        low, median, high = (1e3 * quantile for quantile in statistics.quantiles(seconds, n=4))
        print(f"{name:20s}{median:9.1f} ms for each step  ({low:.1f} to {high:.1f})")
    ratio = statistics.mean(times["cached"]) / statistics.mean(times["baseline"])
    print(f"cached step / student's own step: {ratio:.2f} (means)")

    predictor, size = build_predictor(config), config.teacher_cache.batch_size
    images = TrainingSetImages(training_dataset_config(config), test_pipeline(config))
    images.keys = images.keys[: args.steps * size]
    batches = [
        pseudo_collate([images[index] for index in range(first, first + size)])
        for first in range(0, len(images), size)
    ]
    with TemporaryDirectory() as folder:
        forward, writing = make_forward(predictor, batches), make_writing(predictor, images, size, folder)
        pairs = [(measure(forward), measure(writing)) for _ in range(args.rounds)]
    forwards, writings = zip(*pairs, strict=True)
    for name, seconds in (("teacher's forward", forwards), ("cache written", writings)):
        print(f"{name:20s}{len(images) / statistics.median(seconds):9.1f} images per second")
    ratio = statistics.mean(forwards) / statistics.mean(writings)
    print(f"speed of writing / speed of the teacher's forward: {ratio:.2f} (means)")


if __name__ == "__main__":
    main()
