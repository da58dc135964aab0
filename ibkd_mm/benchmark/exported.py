"""Exported files: of any the network alone, of those that `ibkd export` wrote the whole pipeline too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ibkd_mm.benchmark.inputs import make_input, settle_shape
from ibkd_mm.benchmark.subject import Counts, Picture, Settings, Shape, Subject
from ibkd_mm.deploy.runtime import ModelInfo, letterbox, to_instances
from ibkd_mm.errors import UserError

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Port:
    """An input of a file, as the file tells: None is a length that it leaves open."""

    name: str
    lengths: Sequence[int | None]
    kind: np.dtype


@dataclass(frozen=True)
class Loaded:
    """A file that a runtime has read.

    Args:
        path: of the file.
        runtime: its name.
        ports: the inputs.
        entries: the file's metadata.
        ready: prepares it for inputs of given shapes and returns what runs it.
        count: counts what it holds, and does for given inputs.
    """

    path: Path
    runtime: str
    ports: Sequence[Port]
    entries: Mapping[str, str]
    ready: Callable[[dict[str, Shape]], Callable[[Arrays], Arrays]]
    count: Callable[[Arrays], Counts]


def as_subject(loaded: Loaded, picture: Picture, settings: Settings) -> Subject:
    """Make a file ready: on the picture if it tells how that becomes its input, else on noise."""
    info = _info(loaded, settings)
    if info is None:
        inputs = {
            port.name: make_input(settle_shape(loaded.path, port.name, port.lengths, settings), port.kind)
            for port in loaded.ports
        }
    else:
        (port,) = loaded.ports
        settle_shape(loaded.path, port.name, port.lengths, settings, (info.size[0], info.size[1]))
        images, _ = letterbox(_rgb(picture), info)
        inputs = {port.name: np.repeat(images, settings.batch, axis=0)}
    shapes = {name: array.shape for name, array in inputs.items()}
    run = loaded.ready(shapes)

    def find() -> int:
        assert info is not None
        images, frame = letterbox(_rgb(picture), info)
        outputs = {name: array[0] for name, array in run({port.name: images}).items()}
        score = info.score_threshold if settings.score is None else settings.score
        return len(to_instances(outputs, frame, info, score))

    return Subject(
        runtime=loaded.runtime,
        inputs=list(shapes.values()),
        batch=settings.batch,
        forward=lambda: run(inputs),
        pipeline=find if info is not None and settings.batch == 1 else None,
        count=lambda: loaded.count(inputs),
    )


def _info(loaded: Loaded, settings: Settings) -> ModelInfo | None:
    """Read what a file says of itself; a size that the benchmark sets is what pictures are padded to."""
    try:
        info = ModelInfo.read(loaded.entries)
    except ValueError:
        return None
    if settings.size is None or not info.dynamic:
        return info
    if any(side % info.stride for side in settings.size):
        raise UserError(
            f"{loaded.path} takes sizes that are multiples of {info.stride}, and --size is "
            f"{settings.size[0]} {settings.size[1]}."
        )
    return replace(info, size=list(settings.size), dynamic=False)


def _rgb(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[..., ::-1])
