"""Exported models: the network of any file, and the whole pipeline of files that `ibkd export` wrote."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings, Counts, Image, Shape
from ibkd_mm.benchmark.inputs import make_input, resolve_shape
from ibkd_mm.deploy.runtime import ModelInfo, letterbox, to_instances
from ibkd_mm.errors import UserError

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class InputSpec:
    """An input as the file declares it; None is an open length."""

    name: str
    shape: Sequence[int | None]
    dtype: np.dtype


@dataclass(frozen=True)
class ExportedFile:
    """A file that a runtime has read.

    `prepare` takes the input shapes and returns the function that runs the model.
    """

    path: Path
    runtime: str
    inputs: Sequence[InputSpec]
    metadata: Mapping[str, str]
    prepare: Callable[[dict[str, Shape]], Callable[[Arrays], Arrays]]
    count: Callable[[Arrays], Counts]


def open_exported(file: ExportedFile, image: Image, settings: BenchmarkSettings) -> BenchmarkModel:
    """Prepare a file: on the image if its metadata describes the pre-processing, else on noise."""
    info = _read_info(file, settings)
    size = None if info is None else (info.size[0], info.size[1])
    shapes = {
        spec.name: resolve_shape(file.path, spec.name, spec.shape, settings, size) for spec in file.inputs
    }
    inputs = {spec.name: make_input(shapes[spec.name], spec.dtype) for spec in file.inputs}
    pixels = np.ascontiguousarray(image[..., ::-1])
    if info is not None:
        images, _ = letterbox(pixels, info)
        inputs = dict.fromkeys(shapes, np.repeat(images, settings.batch, axis=0))
    shapes = {name: array.shape for name, array in inputs.items()}
    run = file.prepare(shapes)

    def pipeline() -> int:
        assert info is not None
        images, frame = letterbox(pixels, info)
        outputs = {name: array[0] for name, array in run(dict.fromkeys(shapes, images)).items()}
        score = info.score_threshold if settings.score is None else settings.score
        return len(to_instances(outputs, frame, info, score))

    return BenchmarkModel(
        runtime=file.runtime,
        inputs=list(shapes.values()),
        batch=settings.batch,
        forward=lambda: run(inputs),
        pipeline=pipeline if info is not None and settings.batch == 1 else None,
        count=lambda: file.count(inputs),
    )


def _read_info(file: ExportedFile, settings: BenchmarkSettings) -> ModelInfo | None:
    """Read the metadata of `ibkd export`, if there is any, with the benchmark's input size."""
    try:
        info = ModelInfo.read(file.metadata)
    except ValueError:
        return None
    if settings.size is None or not info.dynamic:
        return info
    if any(side % info.stride for side in settings.size):
        raise UserError(
            f"Expected --size in multiples of {info.stride} for {file.path}, found "
            f"{settings.size[0]} {settings.size[1]}."
        )
    return replace(info, size=list(settings.size), dynamic=False)
