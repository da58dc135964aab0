"""Write and read a file with one step of a training: its batch, seed, iteration and weights."""

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

SUFFIX = ".replay"  # not one of checkpoints, which are searched for in a work dir


@dataclass(frozen=True)
class Step:
    """One step of a training. `seed_everything(seed, rank, iteration)` restores its random numbers.

    Args:
        batch: output of the data loader, as the model's `train_step` takes it.
        state_dict: weights of the model before the step.
        training_only: output of the model's `training_only_state`; empty if it has none.
        seed: seed of the run.
        rank: rank of the process.
        iteration: iteration, counted from 0.
        config: name of the config file in the same folder.
        losses: values of the loss terms.
        versions: versions of the packages.
    """

    batch: Any
    state_dict: dict[str, Tensor]
    training_only: dict[str, Any]
    seed: int
    rank: int
    iteration: int
    config: str
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
    content["batch"] = to_plain(step.batch)
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def read_step(path: Path) -> Step:
    """Read the file; only tensors and plain values are accepted."""
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    content = read_torch(path, "cpu")
    problem = _problem(content)
    if problem:
        raise UserError(f"Expected a training step (*{SUFFIX}), but {path} has {problem}.")
    try:
        return Step(**{**content, "batch": from_plain(content["batch"])})
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
