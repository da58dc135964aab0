"""A file that holds one step of a training, to run it again: its batch, its place, the weights."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mmengine
import torch
from torch import Tensor

from ibkd_mm.engine.checkpoint.load import read_torch
from ibkd_mm.engine.replay.serialise import from_plain, to_plain
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.version import __version__

# None that checkpoints have: whatever looks for those in a folder passes it by.
SUFFIX = ".replay"


@dataclass(frozen=True)
class Step:
    """One step of a training.

    Args:
        batch: what the loader gave, as the model's `train_step` takes it.
        state_dict: the model's weights before the step.
        training_only: what it trains besides and does not keep, as its `training_only_state` gives it.
        place: seed of the run, rank of the process, iteration; the step's random numbers follow from them.
        config: name of the config's file, which lies in the same folder.
        losses: the values of the loss terms.
        versions: of the packages that ran it.
    """

    batch: Any
    state_dict: dict[str, Tensor]
    training_only: dict[str, Any]
    place: tuple[int, int, int]
    config: str
    losses: dict[str, float]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """The packages that decide what numbers come out."""
    import mmdet

    return {
        "ibkd_mm": __version__,
        **{one.__name__: str(one.__version__) for one in (torch, mmengine, mmdet)},
    }


def write_step(path: Path, step: Step) -> None:
    """Write the file whole, or leave none; TypeError names what of the batch cannot be kept."""
    content = {field.name: getattr(step, field.name) for field in fields(Step)}
    content["batch"] = to_plain(step.batch)
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def read_step(path: Path) -> Step:
    """Read the file: nothing but tensors and plain values is taken from it."""
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    found = read_torch(path, "cpu")
    problem = _problem(found)
    if problem:
        raise UserError(f"Expected a step that a training left (*{SUFFIX}), but {path} has {problem}.")
    try:
        return Step(**{**found, "batch": from_plain(found["batch"])})
    except Exception as error:  # what does not fit together fails anywhere, in any way
        raise UserError(f"The batch in {path} is not one that a training left: {error}.") from error


def _problem(found: Any) -> str | None:
    names = {field.name for field in fields(Step)}
    if type(found) is not dict or set(found) != names:
        return f"not the entries {', '.join(sorted(names))}"
    place, config, weights = found["place"], found["config"], found["state_dict"]
    if type(place) is not tuple or [type(one) for one in place] != [int, int, int]:
        return f"the place {place!r} instead of seed, rank and iteration"
    # A name alone: the file may come from elsewhere, and a config is a program.
    if type(config) is not str or Path(config).name != config or "\\" in config:
        return f"the config {config!r} instead of the name of a file beside it"
    if type(weights) is not dict or not all(isinstance(one, Tensor) for one in weights.values()):
        return "a state_dict that holds something else than tensors"
    for name in ("training_only", "losses", "versions"):
        if type(found[name]) is not dict:
            return f"'{name}' that is no dictionary"
    return None
