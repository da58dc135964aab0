"""Exported models: the network of any file, and the whole pipeline of files that `ibkd export` wrote."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings, Counts, Image, Shape
from ibkd_mm.deploy.runtime import ModelInfo, letterbox, to_instances
from ibkd_mm.errors import UserError

Arrays = dict[str, np.ndarray]
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class InputSpec:
    """An input as the file declares it; None is an open length."""

    name: str
    shape: Sequence[int | None]
    dtype: np.dtype


@dataclass(frozen=True)
class ExportedFile:
    """A file that a runtime has read; `prepare` returns the function that runs it on inputs of the shapes."""

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


def resolve_shape(
    path: Path,
    name: str,
    shape: Sequence[int | None],
    settings: BenchmarkSettings,
    default_size: tuple[int, int] | None = None,
) -> Shape:
    """Fill in the open lengths (None) of a shape; refuse a shape that contradicts the settings.

    `default_size` is the height and width that the file was made for, if its size is open.
    """
    declared = "x".join("?" if length is None else str(length) for length in shape)
    resolved, is_image = list(shape), len(shape) == 4
    if shape and (shape[0] is None or is_image):
        resolved[0] = settings.batch if shape[0] is None else shape[0]
        if resolved[0] != settings.batch:
            raise UserError(
                f"Expected --batch {shape[0]} for {path} (input '{name}', {declared}), found "
                f"{settings.batch}. To use another batch, export the model with an open one."
            )
    size = settings.size or default_size
    if is_image and size:
        # the channels are the last axis, or the second
        first = 1 if shape[3] in _CHANNELS and shape[1] not in _CHANNELS else 2
        for axis, side in zip((first, first + 1), size, strict=True):
            resolved[axis] = side if shape[axis] is None else shape[axis]
        height, width = resolved[first : first + 2]
        if settings.size and (height, width) != settings.size:
            raise UserError(
                f"Expected --size {height} {width} for {path} (input '{name}', {declared}), found "
                f"{settings.size[0]} {settings.size[1]}. For another size, export the model with an open one."
            )
    if None in resolved:
        remedy = "Only the batch and the image size can be set here; fix the other lengths in the file."
        if is_image:
            remedy = "Set the height and width of the images, such as --size 640 640."
        raise UserError(f"The shape of input '{name}' of {path} is open ({declared}). {remedy}")
    return tuple(length for length in resolved if length is not None)


def make_input(shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Return noise for floats and bytes, and ones for other integers, which may be indices or sizes."""
    generator = np.random.default_rng(0)
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    return generator.random(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
