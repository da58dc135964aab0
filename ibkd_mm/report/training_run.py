"""A training as its work dir tells of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ibkd_mm.config.read import read_config
from ibkd_mm.errors import UserError
from ibkd_mm.report.scalars import Curves, Log, read_log

_SCALARS, _CONFIG = "vis_data/scalars.json", "vis_data/config.py"
_TOTAL = "loss"


UNKNOWN = "not known: gone on from elsewhere"


@dataclass(frozen=True)
class Run:
    """One training with one seed."""

    work_dir: Path
    name: str
    """Of its config's file."""
    config: dict[str, Any]
    """Of its newest log."""
    load_from: str | None
    """The weights that it began with, whatever it was resumed from since; `UNKNOWN` where no log says."""
    seed: int | None
    processes: int
    hardware: str
    log: Log
    checkpoint: Path | None
    """The last."""

    @property
    def unit(self) -> str:
        """What its length and its validations are counted in."""
        return "epoch" if "max_epochs" in self.config["train_cfg"] else "step"

    @property
    def end(self) -> int:
        """How long it is to be."""
        return int(self.config["train_cfg"][f"max_{'epochs' if self.unit == 'epoch' else 'iters'}"])

    @property
    def batch(self) -> int:
        """Pictures in a step of all processes."""
        return int(self.config["train_dataloader"].get("batch_size", 1)) * self.processes

    @property
    def last(self) -> dict[str, float]:
        """What the last validation measured."""
        reached = self.log.reached
        return {name: curve[reached] for name, curve in self.log.validation.items() if reached in curve}

    @property
    def losses(self) -> Curves:
        """Every term of the loss, told by its name as mmengine does; not their sum."""
        return {name: curve for name, curve in self.log.training.items() if "loss" in name and name != _TOTAL}

    @property
    def step_seconds(self) -> float | None:
        """What a step took, in the middle."""
        times = list(self.log.training.get("time", {}).values())
        return median(times) if times else None


def read_run(work_dir: str | Path) -> Run:
    """Read a work dir of `ibkd train`, or of mmengine: finished, running, or resumed several times."""
    folder = Path(work_dir)
    if not folder.is_dir():
        raise UserError(f"There is no work dir {folder}.")
    logs = sorted(file.parents[1] for file in folder.glob(f"*/{_SCALARS}") if file.stat().st_size)
    if not logs:
        raise UserError(
            f"Expected the work dir of a training, with */{_SCALARS} in it; {folder} has none. Has it logged "
            "anything yet (default_hooks.logger.interval), and is it not the folder above?"
        )
    config = read_config(logs[-1] / _CONFIG).to_dict()
    length = config.get("train_cfg") or {}
    by_epoch = "max_epochs" in length
    log = read_log(
        [each / _SCALARS for each in logs],
        by_epoch=by_epoch,
        interval=length.get("val_interval", 1),
        end=length.get("max_epochs") or length["max_iters"],
    )
    said = _environment(logs[-1])
    seed = (config.get("randomness") or {}).get("seed")
    return Run(
        work_dir=folder,
        name=_name(folder),
        config=config,
        load_from=_load_from(logs),
        seed=_number(said, "numpy_random_seed") if seed is None else seed,
        processes=_number(said, "GPU number") or 1,
        hardware=_hardware(said),
        log=log,
        checkpoint=_checkpoint(folder),
    )


def read_runs(work_dirs: Sequence[str | Path]) -> list[Run]:
    """Read several, each once."""
    resolved = [Path(folder).resolve() for folder in work_dirs]
    twice = [
        str(folder) for folder, path in zip(work_dirs, resolved, strict=True) if resolved.count(path) > 1
    ]
    if twice:
        raise UserError(f"Expected each work dir once, found {twice[0]} several times.")
    return [read_run(folder) for folder in work_dirs]


def _name(folder: Path) -> str:
    """Take the name from the config that mmengine leaves beside the logs, the newest of several."""
    configs = sorted(folder.glob("*.py"), key=lambda file: file.stat().st_mtime)
    return configs[-1].stem if configs else folder.name


def _load_from(logs: Sequence[Path]) -> str | None:
    """Take it from the newest log that was not resumed: a resumed one names what it went on from instead."""
    configs = (read_config(each / _CONFIG) for each in reversed(logs))
    return next((config.get("load_from") for config in configs if not config.get("resume")), UNKNOWN)


def _environment(logs: Path) -> dict[str, str]:
    """Read what mmengine says of seed and machine before a training."""
    file = logs / f"{logs.name}.log"
    said = file.read_text(errors="replace").partition("Config:")[0] if file.is_file() else ""
    return dict(re.findall(r"^ +([\w ,]+?): (.+)$", said, re.MULTILINE))


def _number(said: dict[str, str], name: str) -> int | None:
    return int(said[name]) if said.get(name, "").isdigit() else None


def _hardware(said: dict[str, str]) -> str:
    gpus = [value for name, value in said.items() if re.fullmatch(r"GPU [\d,]+", name)]
    torch = f"PyTorch {said['PyTorch']}" if "PyTorch" in said else "unknown"
    return f"{', '.join(gpus)}, {torch}" if gpus else torch if torch == "unknown" else f"CPU, {torch}"


def _checkpoint(folder: Path) -> Path | None:
    """Find the last checkpoint, also where the folder was moved since."""
    note = folder / "last_checkpoint"
    if not note.is_file():
        return None
    written = Path(note.read_text().strip())
    return next((path for path in (folder / written.name, written) if path.is_file()), None)
