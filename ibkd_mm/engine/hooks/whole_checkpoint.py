"""The checkpoint hook that never removes a checkpoint before the next one is on the disk."""

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ibkd_mm.engine.checkpoint.latest import PREEMPTED
from ibkd_mm.engine.checkpoint.save import set_last_checkpoint
from ibkd_mm.engine.model_wrappers import is_accumulating
from ibkd_mm.registry import HOOKS
from ibkd_mm.utils.atomic import PARTIAL


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, but a checkpoint is removed only after the next one is on the disk."""

    # mmengine has no public methods to override for how it saves and removes; these are private ones.

    def before_train(self, runner: Runner) -> None:
        """Remove the partial files of a killed run."""
        super().before_train(runner)
        if is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for partial in folder.glob(f".*{PARTIAL}"):
                    partial.unlink(missing_ok=True)

    def _save_checkpoint(self, runner: Runner) -> None:
        if is_accumulating(runner):
            runner.logger.warning(
                "This checkpoint falls between two steps of the optimizer: resuming from it loses the "
                "gradients gathered so far. Choose an interval that is a multiple of accumulative_counts."
            )
        super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated = self._add_step(step)
        runner.message_hub.update_info("keep_ckpt_ids", list(getattr(self, "keep_ckpt_ids", [])))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        settings = ("save_optimizer", "save_param_scheduler", "by_epoch", "backend_args")
        options = {setting: getattr(self, setting) for setting in settings}
        runner.save_checkpoint(self.out_dir, name, meta=meta, **options, **self.args)
        if is_main_process():
            checkpoint, work_dir = Path(self.last_ckpt), Path(runner.work_dir)
            set_last_checkpoint(checkpoint, work_dir)
            for path in [*outdated, work_dir / PREEMPTED]:
                if path != checkpoint:
                    path.unlink(missing_ok=True)

    def _add_step(self, step: int) -> list[Path]:
        """Add a step to the checkpoints to keep; return those that exceed `max_keep_ckpts`."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        outdated = [self.keep_ckpt_ids[0]] if len(self.keep_ckpt_ids) == self.max_keep_ckpts else []
        self.keep_ckpt_ids.append(step)
        return [Path(self.out_dir) / self.filename_tmpl.format(old) for old in outdated]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        outdated: list[str] = []
        backend: Any = self.file_backend  # type: ignore[has-type]
        self.file_backend = _DeferredRemoval(backend, outdated)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        current = {getattr(self, "best_ckpt_path", None), *getattr(self, "best_ckpt_path_dict", {}).values()}
        for path in outdated:
            if path not in current:
                backend.remove(path)


class _DeferredRemoval:
    """A file backend that only lists the files to remove."""

    def __init__(self, backend: Any, removed: list[str]) -> None:
        self.backend, self.remove = backend, removed.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
