"""The call behind `ibkd benchmark`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings, Counts, Flops, unique_names
from ibkd_mm.benchmark.compare import compare
from ibkd_mm.benchmark.machine import all_versions, hardware, threads
from ibkd_mm.benchmark.memory_process import measure_memory
from ibkd_mm.benchmark.open_model import check_arguments, find_model, open_model, read_image
from ibkd_mm.benchmark.table import BenchmarkTable, Environment, Row
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.cores import usable_cores


def benchmark(
    models: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    batch: int = 1,
    rounds: int = 50,
    warmup: int = 5,
    thread_count: int | None = None,
    score: float | None = None,
    image: str | None = None,
    out: str | None = None,
    device: str = "cpu",
    memory: bool = True,
) -> BenchmarkTable:
    """Time models side by side, and count their parameters, operations and memory.

    Args:
        models: each an `.onnx` file, an `.xml` file of OpenVINO, a config, or `CONFIG,WEIGHTS`.
        size: height and width that images are resized and padded to; else each model's own.
        batch: images in a forward pass; with more than one, the whole pipeline is not timed.
        rounds: number of timed runs of each model.
        warmup: number of runs before these.
        thread_count: threads of each runtime; else all cores.
        score: minimum score of an instance in the whole pipeline; else each model's own.
        image: file of the image; else one is drawn.
        out: `.json` file for the table and all times.
        device: 'cpu' or 'cuda'.
        memory: whether to measure memory, each model in a process of its own.
    """
    cores = usable_cores() if thread_count is None else thread_count
    settings = BenchmarkSettings(size, batch, cores, device, score)
    check_arguments(settings, rounds, warmup, out)
    for model in models:
        find_model(model)
    pixels, names = read_image(image), unique_names(models)
    subjects: list[BenchmarkModel] = []
    counts: list[Counts] = []
    grown: list[int | None] = [None] * len(models)
    with threads(cores):
        for model, name in zip(models, names, strict=True):
            _log(f"Reading {name}")
            subjects.append(open_model(model, pixels, settings))
            counts.append(_per_image(subjects[-1].count(), batch))
        for index, name in enumerate(names if memory else ()):
            _log(f"Measuring the memory of {name}")
            grown[index] = measure_memory(models[index], image, settings)
        instances = [subject.pipeline() if subject.pipeline else None for subject in subjects]
        measured = compare(subjects, rounds, warmup)
    rows = [
        Row(name, model, subject.runtime, subject.inputs, count, growth, network, pipeline, found)
        for name, model, subject, count, growth, (network, pipeline), found in zip(
            names, models, subjects, counts, grown, measured, instances, strict=True
        )
    ]
    used = Environment(hardware(device), cores, device, rounds, warmup, pixels.shape[:2], all_versions())
    table = BenchmarkTable(rows, used)
    if out:
        with atomic_write(Path(out)) as partial:
            partial.write_text(json.dumps(table.to_dict(), indent=1))
        _log(f"Wrote {out}")
    return table


def _per_image(counts: Counts, batch: int) -> Counts:
    flops = counts.flops
    return counts._replace(flops=flops and Flops(flops.weights // batch, flops.products // batch))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
