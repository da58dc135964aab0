"""Write and read a file with one step of a training, as tensors and plain values: it needs no classes."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from torch import Tensor

from ibkd_mm.engine.checkpoint.load import read_torch
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.version import __version__

SUFFIX = ".replay"  # not one of checkpoints, which are searched for in a work dir
_TAG = "_class"
_VALUES = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Step:
    """One step of a training. `seed_everything(seed, rank, iteration)` restores its random numbers."""

    batch: Any  # output of the data loader
    state_dict: dict[str, Tensor]  # before the step
    training_only: dict[str, Any]  # empty if the model has none
    seed: int
    rank: int
    iteration: int  # counted from 0
    config: str  # name of a file in the same folder
    losses: dict[str, float]
    versions: dict[str, str]


_TYPES = {
    **dict.fromkeys(("seed", "rank", "iteration"), int),
    **dict.fromkeys(("state_dict", "training_only", "losses", "versions"), dict),
    "config": str,
}


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    import mmdet

    packages = {package.__name__: str(package.__version__) for package in (torch, mmengine, mmdet)}
    return {"ibkd_mm": __version__, **packages}


def write_step(path: Path, step: Step) -> None:
    """Write the file atomically; TypeError names an object in the batch that cannot be saved."""
    content = {field.name: getattr(step, field.name) for field in fields(Step)}
    content["batch"] = _to_plain(step.batch)
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def read_step(path: Path) -> Step:
    """Read the file; only tensors and plain values are accepted."""
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    content = read_torch(path, "cpu")
    if problem := _problem(content):
        raise UserError(f"Expected a training step (*{SUFFIX}), but {path} has {problem}.")
    try:
        return Step(**{**content, "batch": _from_plain(content["batch"])})
    except Exception as error:  # an invalid batch may raise any error
        raise UserError(f"The batch in {path} is not one of a training: {error}.") from error


def _problem(content: Any) -> str | None:
    names = {field.name for field in fields(Step)}
    if type(content) is not dict or set(content) != names:
        return f"not the entries {', '.join(sorted(names))}"
    for name, kind in _TYPES.items():
        if type(content[name]) is not kind:
            return f"{content[name]!r:.40} as {name} instead of {kind.__name__}"
    config = content["config"]
    # No path: the file may come from somewhere else, and a config is a program.
    if Path(config).name != config or "\\" in config:
        return f"the config {config!r} instead of the name of a file in its folder"
    if not all(isinstance(value, Tensor) for value in content["state_dict"].values()):
        return "a state_dict with values other than tensors"
    return None


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(_to_plain(item) for item in value)
    if isinstance(value, dict):
        return {str(key): _to_plain(item) for key, item in value.items()}
    name = type(value).__name__
    if name not in _converters():
        raise TypeError(f"the batch holds a {name}, which cannot be saved")
    split, _ = _converters()[name]
    return {_TAG: name, "parts": _to_plain(split(value))}


def _from_plain(value: Any) -> Any:
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(_from_plain(item) for item in value)
    if type(value) is not dict:
        raise TypeError(f"a {type(value).__name__} in the batch")
    if _TAG in value:
        _, make = _converters()[value[_TAG]]
        return make(*_from_plain(value["parts"]))
    return {key: _from_plain(item) for key, item in value.items()}


@cache
def _converters() -> dict[str, tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]]:
    """Return, by the name of a class, how an object is split into parts and made from them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks, PolygonMasks
    from mmseg.structures import SegDataSample

    def split_element(element: Any) -> tuple[Any, ...]:
        return dict(element.metainfo_items()), dict(element.items())

    def make_element(kind: Any, metainfo: dict[str, Any], data: dict[str, Any]) -> Any:
        return kind(metainfo=metainfo, **data)

    def split_masks(masks: Any) -> tuple[Any, ...]:
        return masks.masks, masks.height, masks.width

    def split_array(array: Any) -> tuple[Any, ...]:
        return torch.from_numpy(np.ascontiguousarray(array)), tuple(array.shape)

    elements = (DetDataSample, SegDataSample, BaseDataElement, InstanceData, PixelData, LabelData)
    return {
        **{kind.__name__: (split_element, partial(make_element, kind)) for kind in elements},
        "HorizontalBoxes": (lambda boxes: (boxes.tensor,), partial(HorizontalBoxes, clone=False)),
        "BitmapMasks": (split_masks, BitmapMasks),
        "PolygonMasks": (split_masks, PolygonMasks),
        "ndarray": (split_array, lambda tensor, shape: tensor.numpy().reshape(shape)),
    }
