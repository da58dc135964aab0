"""Training, as a Python call."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.apis.run_config import build_runner, check_checkpoint_exists, prepare
from ibkd_mm.config.load import ConfigLike, Options
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.engine.checkpoint.latest import find_resumable, last_checkpoint
from ibkd_mm.engine.distributed import destroy_processes
from ibkd_mm.errors import UserError

_CPU_AMP = "ibkd_mm.CpuAmpOptimWrapper"
_PLAIN_OR_MIXED = ("OptimWrapper", "AmpOptimWrapper", _CPU_AMP)


@dataclass(frozen=True)
class TrainResult:
    """Where a training left its files."""

    work_dir: Path
    log_dir: Path
    last: Path | None
    best: Path | None

    def __str__(self) -> str:
        lines = [f"Done: work_dir={self.work_dir}", f"  log: {self.log_dir}"]
        lines.append(f"  last checkpoint: {self.last or 'none was saved (see default_hooks.checkpoint)'}")
        return "\n".join(lines + ([f"  best checkpoint: {self.best}"] if self.best else []))


def train(
    config: ConfigLike,
    *,
    options: Options = None,
    work_dir: str | None = None,
    resume: str | bool | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    launcher: str = "none",
    hooks: Sequence[Hook] = (),
) -> TrainResult:
    """Train the model that a config describes.

    Args:
        config: a config, its path, or `package::path`.
        options: settings to override, as for `load_config`.
        work_dir: folder for logs and checkpoints; else the config's, else `./work_dirs/<config name>`.
        resume: a checkpoint to go on from; True or 'auto' for the last one in the work dir.
        amp: automatic mixed precision; without a GPU bfloat16, where the processor is made for it.
        auto_scale_lr: scale the learning rate by our batch size over `auto_scale_lr.base_batch_size`.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        hooks: besides those of the config.
    """
    ready = prepare(config, "training", options, work_dir, launcher)
    _set_resume(ready, resume)
    if amp:
        _set_amp(ready)
    if auto_scale_lr:
        _set_scaled_lr(ready)
    with user_errors(ready):
        runner = build_runner(ready, "resume" if ready.get("resume") else "load_from")
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
    destroy_processes()
    return _result(runner)


def _set_resume(config: Config, resume: str | bool | None) -> None:
    if resume is None and config.get("resume") and not config.get("load_from"):
        resume = "auto"
    if resume in (True, "auto"):
        found = find_resumable(Path(config.work_dir))
        config.resume = found is not None
        if found is None:
            print(f"There is no checkpoint in {config.work_dir} yet: the training starts anew.")
        else:
            config.load_from = str(found)
    elif resume:
        config.resume, config.load_from = True, str(resume)
    if config.get("load_from"):
        check_checkpoint_exists(config.load_from)


def _set_amp(config: Config) -> None:
    kind = config.optim_wrapper.get("type", "OptimWrapper")
    if str(kind).removeprefix("mmengine.") not in _PLAIN_OR_MIXED:
        raise UserError(f"--amp replaces optim_wrapper.type='OptimWrapper', found '{kind}'. Leave --amp out.")
    if torch.cuda.is_available():
        if kind == _CPU_AMP:
            config.optim_wrapper.pop("dtype", None)
        config.optim_wrapper.type = "AmpOptimWrapper"
        config.optim_wrapper.setdefault("loss_scale", "dynamic")
    else:
        if kind != _CPU_AMP:
            config.optim_wrapper.pop("dtype", None)
        config.optim_wrapper.type = _CPU_AMP
        config.optim_wrapper.setdefault("dtype", "auto")
        config.optim_wrapper.pop("loss_scale", None)


def _set_scaled_lr(config: Config) -> None:
    if not config.get("auto_scale_lr", {}).get("base_batch_size"):
        raise UserError(
            "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config: the batch size, over "
            "all GPUs, that its learning rate was chosen for. It has none."
        )
    config.auto_scale_lr.enable = True


def _result(runner: Runner) -> TrainResult:
    work_dir = Path(runner.work_dir)
    info = runner.message_hub.runtime_info
    best = Path(info["best_ckpt"]) if info.get("best_ckpt") else None
    return TrainResult(work_dir, Path(runner.log_dir), last_checkpoint(work_dir), best)
