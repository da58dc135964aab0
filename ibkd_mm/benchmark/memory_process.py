"""Measure the memory of a model in a process of its own."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings
from ibkd_mm.benchmark.machine import threads
from ibkd_mm.benchmark.memory import growth_during
from ibkd_mm.benchmark.open_model import RUNTIME_PACKAGES, open_model, read_image
from ibkd_mm.registry import MODELS
from ibkd_mm.utils.optional_packages import require_package

_CHILD = "from ibkd_mm.benchmark.memory_process import answer; answer()"
_RUNS = 3  # the first ones allocate memory that later ones reuse


def measure_memory(model: str, image: str | None, settings: BenchmarkSettings) -> int | None:
    """Return by how many bytes a process grows that loads and runs a model; None if that cannot be measured.

    On a GPU its memory is measured instead of the process.
    """
    request = json.dumps({"model": model, "image": image, "settings": asdict(settings)})
    child = subprocess.run(
        [sys.executable, "-c", _CHILD], input=request, capture_output=True, text=True, check=False
    )
    if child.returncode:
        problem = (child.stderr.strip() or "the process was killed").splitlines()[-1]
        print(f"  not measured: {problem}", file=sys.stderr, flush=True)
        return None
    return json.loads(child.stdout.splitlines()[-1])


def answer() -> None:
    """Read a request of `measure_memory` from stdin, run the model and print the bytes."""
    MODELS.import_from_location()  # before the measurement, so that only the model counts
    request = json.load(sys.stdin)
    model, image = request["model"], read_image(request["image"])
    settings = BenchmarkSettings(**request["settings"])
    if settings.size:
        settings = replace(settings, size=(settings.size[0], settings.size[1]))  # JSON has no tuples
    package = RUNTIME_PACKAGES.get(Path(model).suffix)
    if package:
        require_package(package, f"Running {model}")

    def run() -> None:
        subject = open_model(model, image, settings)
        for _ in range(_RUNS):
            (subject.pipeline or subject.forward)()

    with threads(settings.threads):
        growth = growth_during(run)
    on_gpu = torch.cuda.max_memory_allocated() if settings.device == "cuda" and not package else None
    print(json.dumps(growth if settings.device == "cpu" else on_gpu))
