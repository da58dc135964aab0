"""The call behind `ibkd train`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook

from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.config.command_options import enable_lr_scaling
from ibkd_mm.config.load import ConfigLike, Options
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.engine.amp import check_amp_device, enable_amp
from ibkd_mm.engine.checkpoint.latest import find_resumable, last_checkpoint
from ibkd_mm.engine.checkpoint.sources import check_exists
from ibkd_mm.engine.distributed import destroy_processes


@dataclass(frozen=True)
class TrainResult:
    """Folders and checkpoints that a training wrote."""

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
        resume: a checkpoint to resume from; True or 'auto' for the last one in the work dir.
        amp: automatic mixed precision; without a GPU in bfloat16, on a processor that computes in it.
        auto_scale_lr: scale the learning rate by the batch size over `auto_scale_lr.base_batch_size`.
        hooks: hooks to register besides those of the config.
    """
    ready = prepare(config, "training", options, work_dir, launcher)
    _set_resume(ready, resume)
    if amp:
        enable_amp(ready)
    check_amp_device(ready)
    if auto_scale_lr:
        enable_lr_scaling(ready)
    with user_errors(ready):
        runner = build_runner(ready, "resume" if ready.get("resume") else "load_from")
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
    destroy_processes()
    best = runner.message_hub.runtime_info.get("best_ckpt")
    folder, log_dir = Path(runner.work_dir), Path(runner.log_dir)
    return TrainResult(folder, log_dir, last_checkpoint(folder), Path(best) if best else None)


def _set_resume(config: Config, resume: str | bool | None) -> None:
    if resume is None and config.get("resume") and not config.get("load_from"):
        resume = "auto"
    if resume in (True, "auto"):
        found = find_resumable(Path(config.work_dir))
        config.resume = found is not None
        if found is None:
            print(f"There is no checkpoint in {config.work_dir} yet: the training starts from the beginning.")
        else:
            config.load_from = str(found)
    elif resume:
        config.resume, config.load_from = True, str(resume)
    if config.get("load_from"):
        check_exists(config.load_from)
