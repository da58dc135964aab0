"""The benchmark, as a Python call."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ibkd_mm.apis.run_config import check_checkpoint_exists
from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings, Counts, Image, unique_names
from ibkd_mm.benchmark.compare import compare
from ibkd_mm.benchmark.exported import open_exported
from ibkd_mm.benchmark.flops import Flops
from ibkd_mm.benchmark.machine import all_versions, hardware, threads
from ibkd_mm.benchmark.memory import growth_during
from ibkd_mm.benchmark.onnx_model import load_onnx
from ibkd_mm.benchmark.openvino_model import load_openvino
from ibkd_mm.benchmark.pytorch_model import open_detector
from ibkd_mm.benchmark.table import BenchmarkTable, Environment, Row
from ibkd_mm.config.load import check_keys, keep_student_only, load_config
from ibkd_mm.config.read import find_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.datasets.shapes.build import ShapesSpec
from ibkd_mm.engine import load_weights
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.cores import usable_cores
from ibkd_mm.utils.optional_packages import require_package

_FILES = {".onnx": load_onnx, ".xml": load_openvino}
_PACKAGES = {".onnx": "onnxruntime", ".xml": "openvino"}
_CONFIGS = (".py", ".json", ".yaml", ".yml")
_WEIGHTS = (".pth", ".pt", ".safetensors")
_CHILD = "from ibkd_mm.apis.benchmark import answer_memory; answer_memory()"
_RUNS = 3
"""For the memory: the first runs take what later ones reuse."""


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
    """Time models beside each other, and tell what they hold and take.

    Args:
        models: each an `.onnx` file, an `.xml` file of OpenVINO, a config, or `CONFIG,WEIGHTS`.
        size: height and width that pictures are made to fit; else each model's own.
        batch: pictures in a forward pass; the whole pipeline is of one, and left out for more.
        rounds: how often each is timed.
        warmup: rounds before these.
        thread_count: for each runtime; else all cores.
        score: the least score of an instance in the whole pipeline; else each model's own.
        image: file of the picture; else one is drawn.
        out: `.json` file for the table and all that was timed.
        device: 'cpu' or 'cuda'.
        memory: whether to measure it too, each model's in a process of its own.
    """
    cores = usable_cores() if thread_count is None else thread_count
    settings = BenchmarkSettings(size, batch, cores, device, score)
    _check_arguments(settings, rounds, warmup, out)
    for model in models:
        _find(model)
    picture, names, subjects, counts = _picture(image), unique_names(models), [], []
    with threads(cores):
        for model, name in zip(models, names, strict=True):
            _say(f"Reading {name}")
            subjects.append(_open(model, picture, settings))
            counts.append(_of_one_picture(subjects[-1].count(), batch))
        grown = [
            _memory(model, name, image, settings) if memory else None
            for model, name in zip(models, names, strict=True)
        ]
        instances = [subject.pipeline() if subject.pipeline else None for subject in subjects]
        measured = compare(subjects, rounds, warmup)
    rows = [
        Row(name, model, subject.runtime, subject.inputs, count, growth, network, pipeline, found)
        for name, model, subject, count, growth, (network, pipeline), found in zip(
            names, models, subjects, counts, grown, measured, instances, strict=True
        )
    ]
    where = hardware(device), cores, device, rounds, warmup, picture.shape[:2], all_versions()
    table = BenchmarkTable(rows, Environment(*where))
    if out:
        with atomic_write(Path(out)) as partial:
            partial.write_text(json.dumps(table.to_dict(), indent=1))
        _say(f"Wrote {out}")
    return table


def answer_memory() -> None:
    """Answer, in a process that does nothing else, by how many bytes it grows for a model."""
    asked = json.load(sys.stdin)
    model, picture, settings = (
        asked["model"],
        _picture(asked["image"]),
        BenchmarkSettings(**asked["settings"]),
    )
    if settings.size:
        settings = replace(settings, size=(settings.size[0], settings.size[1]))  # JSON has no tuples
    package = _PACKAGES.get(Path(model).suffix)
    if package:
        require_package(package, f"Running {model}")

    def work() -> None:
        subject = _open(model, picture, settings)
        for _ in range(_RUNS):
            (subject.pipeline or subject.forward)()

    with threads(settings.threads):
        growth = growth_during(work)
    on_gpu = torch.cuda.max_memory_allocated() if settings.device == "cuda" and not package else None
    print(json.dumps(growth if settings.device == "cpu" else on_gpu))


def _memory(model: str, name: str, image: str | None, settings: BenchmarkSettings) -> int | None:
    _say(f"Measuring the memory of {name}")
    asked = json.dumps({"model": model, "image": image, "settings": asdict(settings)})
    child = subprocess.run(
        [sys.executable, "-c", _CHILD], input=asked, capture_output=True, text=True, check=False
    )
    if child.returncode:
        _say(f"  not measured: {(child.stderr.strip() or 'the process was killed').splitlines()[-1]}")
        return None
    return json.loads(child.stdout.splitlines()[-1])


def _check_arguments(settings: BenchmarkSettings, rounds: int, warmup: int, out: str | None) -> None:
    """Refuse what cannot be, before anything is read."""
    least = {
        "--batch": (settings.batch, 1),
        "--threads": (settings.threads, 1),
        "--rounds": (rounds, 1),
        "--warmup": (warmup, 0),
        "--size": (min(settings.size or (1,)), 1),
    }
    for name, (found, wanted) in least.items():
        if found < wanted:
            raise UserError(f"Expected {name} of {wanted} or more, found {found}.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda needs a GPU that PyTorch can use, and there is none. `ibkd doctor` tells more."
        )
    if out is not None and (Path(out).suffix != ".json" or not Path(out).absolute().parent.is_dir()):
        raise UserError(
            f"--out writes JSON: expected a name ending in .json in a folder that exists, found {out}."
        )


def _find(model: str) -> tuple[Path, str | None]:
    """Find the file of a model, and its weights where it is a config."""
    first, _, weights = model.partition(",")
    suffix = Path(first).suffix
    if suffix in _FILES and not weights:
        path = Path(first).expanduser()
        if not path.is_file():
            beside = [found.name for found in path.parent.glob(f"*{suffix}")] if path.parent.is_dir() else []
            raise UserError(f"There is no model {path}.{did_you_mean(path.name, beside)}")
        return path, None
    if suffix in _WEIGHTS:
        raise UserError(f"{first} holds weights alone. Name the config that they belong to: CONFIG,{first}")
    if suffix and suffix not in _CONFIGS and "::" not in first:
        raise UserError(
            f"Expected an .onnx file, an .xml file of OpenVINO, a config, or CONFIG,WEIGHTS; found {model}."
        )
    config = find_config(first)
    if weights:
        check_checkpoint_exists(weights)
    return config, weights or None


def _open(model: str, picture: Image, settings: BenchmarkSettings) -> BenchmarkModel:
    path, weights = _find(model)
    if path.suffix in _FILES:
        return open_exported(_FILES[path.suffix](path, settings), picture, settings)
    config = load_config(path)
    check_keys(config, "test")
    keep_student_only(config)
    with user_errors(config):
        return open_detector(
            config, load_weights(weights)["state_dict"] if weights else None, picture, settings
        )


def _picture(image: str | None) -> Image:
    """Read a picture, or draw one of shapes: 640 wide, 480 high."""
    if image is None:
        return np.ascontiguousarray(ShapesSpec(size=640).scene("val", 0).image[:480])
    if not Path(image).is_file():
        raise UserError(f"There is no picture {image}.")
    picture = cv2.imread(image, cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"{image} is not a picture that can be read.")
    return picture


def _of_one_picture(counts: Counts, batch: int) -> Counts:
    flops = counts.flops
    return counts._replace(flops=flops and Flops(flops.weights // batch, flops.products // batch))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
