"""Read a training run from its work dir."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ibkd_mm.config.load import read_config
from ibkd_mm.errors import UserError
from ibkd_mm.report.scalars import Curves, Log, read_log

_SCALARS, _CONFIG = "vis_data/scalars.json", "vis_data/config.py"
UNKNOWN = "unknown: resumed from another folder"


@dataclass(frozen=True)
class Run:
    """One training with one seed; `load_from` are the initial weights, or `UNKNOWN` if no log names them."""

    work_dir: Path
    name: str
    config: dict[str, Any]
    load_from: str | None
    seed: int | None
    processes: int
    hardware: str
    log: Log
    checkpoint: Path | None

    @property
    def unit(self) -> str:
        """Unit of its length and validations."""
        return "epoch" if "max_epochs" in self.config["train_cfg"] else "step"

    @property
    def end(self) -> int:
        """Configured length."""
        return int(self.config["train_cfg"][f"max_{'epochs' if self.unit == 'epoch' else 'iters'}"])

    @property
    def batch(self) -> int:
        """Images per step over all processes."""
        return int(self.config["train_dataloader"].get("batch_size", 1)) * self.processes

    @property
    def last(self) -> dict[str, float]:
        """Metrics of the last validation."""
        reached = self.log.reached
        return {name: curve[reached] for name, curve in self.log.validation.items() if reached in curve}

    @property
    def losses(self) -> Curves:
        """Curves of the loss terms, which mmengine recognises by their names, without the total."""
        return {name: curve for name, curve in self.log.training.items() if "loss" in name and name != "loss"}

    @property
    def step_seconds(self) -> float | None:
        """Median time of a step."""
        times = list(self.log.training.get("time", {}).values())
        return median(times) if times else None


def read_run(work_dir: str | Path) -> Run:
    """Read a work dir of `ibkd train` or mmengine: finished, running, or resumed several times."""
    folder = Path(work_dir)
    if not folder.is_dir():
        raise UserError(f"There is no work dir {folder}.")
    logs = sorted(file.parents[1] for file in folder.glob(f"*/{_SCALARS}") if file.stat().st_size)
    if not logs:
        raise UserError(
            f"Expected the work dir of a training, with */{_SCALARS} in it, found none in {folder}. Name the "
            "work dir itself, not the folder above it, and wait until the training has logged something "
            "(default_hooks.logger.interval)."
        )
    config = read_config(logs[-1] / _CONFIG).to_dict()
    length = config.get("train_cfg") or {}
    log = read_log(
        [folder / _SCALARS for folder in logs],
        by_epoch="max_epochs" in length,
        interval=length.get("val_interval", 1),
        end=length.get("max_epochs") or length["max_iters"],
    )
    copied = sorted(folder.glob("*.py"), key=lambda file: file.stat().st_mtime)  # by mmengine, at each start
    configs = (read_config(each / _CONFIG) for each in reversed(logs))
    # a resumed training has the checkpoint in `load_from` instead of its initial weights
    load_from = next((each.get("load_from") for each in configs if not each.get("resume")), UNKNOWN)
    environment = _read_environment(logs[-1])
    seed = (config.get("randomness") or {}).get("seed")
    return Run(
        work_dir=folder,
        name=copied[-1].stem if copied else folder.name,
        config=config,
        load_from=load_from,
        seed=_number(environment, "numpy_random_seed") if seed is None else seed,
        processes=_number(environment, "GPU number") or 1,
        hardware=_hardware(environment),
        log=log,
        checkpoint=_last_checkpoint(folder),
    )


def read_runs(work_dirs: Sequence[str | Path]) -> list[Run]:
    """Read several work dirs; none may be given twice."""
    resolved = [Path(folder).resolve() for folder in work_dirs]
    for folder, path in zip(work_dirs, resolved, strict=True):
        if resolved.count(path) > 1:
            raise UserError(f"Expected each work dir once, found {folder} several times.")
    return [read_run(folder) for folder in work_dirs]


def _read_environment(logs: Path) -> dict[str, str]:
    """Read the seed and hardware that mmengine logs before a training."""
    file = logs / f"{logs.name}.log"
    text = file.read_text(errors="replace").partition("Config:")[0] if file.is_file() else ""
    return dict(re.findall(r"^ +([\w ,]+?): (.+)$", text, re.MULTILINE))


def _number(environment: dict[str, str], name: str) -> int | None:
    return int(environment[name]) if environment.get(name, "").isdigit() else None


def _hardware(environment: dict[str, str]) -> str:
    gpus = [value for name, value in environment.items() if re.fullmatch(r"GPU [\d,]+", name)]
    if "PyTorch" not in environment:
        return ", ".join([*gpus, "unknown"])
    return f"{', '.join(gpus) or 'CPU'}, PyTorch {environment['PyTorch']}"


def _last_checkpoint(folder: Path) -> Path | None:
    """Find the last checkpoint, even if the folder was moved."""
    pointer = folder / "last_checkpoint"
    if not pointer.is_file():
        return None
    written = Path(pointer.read_text().strip())
    return next((path for path in (folder / written.name, written) if path.is_file()), None)
