"""Checkpoints that are whole or not there: written beside, synced, renamed; then older ones are removed."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to

from ibkd_mm.engine.checkpoint import load_weights
from ibkd_mm.engine.wrappers import optim_wrappers, unwrapped
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS

POINTER, PREEMPTED = "last_checkpoint", "preempted.pth"
_PARTIAL = ".partial"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file stands under `path` only once all of it is on the disk."""
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def point_to(checkpoint: Path, work_dir: Path) -> None:
    """Name the checkpoint that `--resume` goes on from."""
    with whole_file(work_dir / POINTER) as partial:
        partial.write_text(str(checkpoint))


def training_state(runner: Runner, meta: dict[str, Any], by_epoch: bool) -> dict[str, Any]:
    """Gather the weights, the log's history and what the run is, in mmengine's layout."""
    step = {"epoch": runner.epoch + by_epoch, "iter": runner.iter + (not by_epoch)}
    run = {
        "seed": runner.seed,
        "experiment_name": runner.experiment_name,
        "time": time.strftime("%Y%m%d_%H%M%S"),
    }
    run["mmengine_version"] = mmengine.__version__
    dataset = runner.train_dataloader.dataset
    if hasattr(dataset, "metainfo"):
        run["dataset_meta"] = dataset.metainfo
    return {
        "meta": {**step, **meta, **run},
        "state_dict": weights_to_cpu(unwrapped(runner.model).state_dict()),
        "message_hub": on_cpu(runner.message_hub.state_dict()),
    }


def on_cpu(state: Any) -> Any:
    """Copy what is on another device."""
    return apply_to(state, lambda value: hasattr(value, "cpu"), lambda value: value.cpu())


def schedules(schedulers: Any) -> Any:
    """Gather the states of schedulers, of one optimizer or of several by name."""
    if isinstance(schedulers, dict):
        return {name: schedules(own) for name, own in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]


def cannot_write(path: Path, work_dir: Path, error: OSError | RuntimeError) -> UserError:
    """Say what remains after a write that failed."""
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    pointer = work_dir / POINTER
    last = pointer.read_text().strip() if pointer.is_file() else None
    remains = f"{last} is whole" if last else "there is no earlier checkpoint"
    return UserError(
        f"Cannot write the checkpoint {path}: {reason}. Nothing was overwritten; {remains}. "
        "Make room, then go on with --resume."
    )


def find_resumable(work_dir: Path) -> Path | None:
    """Find the newest whole checkpoint that a training wrote; None where there is none at all.

    Looks first where the pointer says, then at what else is there, newest first: a folder may have been
    moved, and a disk may lose what was synced.
    """
    problems = []
    for candidate in _candidates(work_dir):
        try:
            load_weights(candidate)
        except UserError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                print_log(f"Passed over: {problem}", "current", logging.WARNING)
            return candidate
    if problems:
        raise UserError("No checkpoint to resume from is whole:\n  " + "\n  ".join(problems))
    return None


def _candidates(work_dir: Path) -> list[Path]:
    pointer = work_dir / POINTER
    target = Path(pointer.read_text().strip()) if pointer.is_file() else None
    named = [path for path in (work_dir / target.name, target) if path.is_file()] if target else []
    others = sorted(work_dir.glob("*.pth"), key=lambda path: path.stat().st_mtime, reverse=True)
    return list(dict.fromkeys([*named[:1], *(path for path in others if not path.name.startswith("best_"))]))


def accumulating(runner: Runner) -> bool:
    """Tell whether gradients were gathered that no step has used yet; no checkpoint holds them."""
    return not all(one.should_update() for one in optim_wrappers(runner.optim_wrapper))


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, which never removes a checkpoint before the next one is on the disk.

    Acts where that one does: after_train_iter or after_train_epoch, and after_val_epoch for the best.
    """

    def before_train(self, runner: Runner) -> None:
        """Clear away what a killed run left half-written."""
        super().before_train(runner)
        if is_main_process():
            for partial in Path(self.out_dir).glob(f".*{_PARTIAL}"):
                partial.unlink(missing_ok=True)

    def _save_checkpoint(self, runner: Runner) -> None:
        if accumulating(runner):
            runner.logger.warning(
                "This checkpoint falls between two steps of the optimizer: resuming from it loses the "
                "gradients gathered so far. Choose an interval that is a multiple of accumulative_counts."
            )
        super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated = self._shift(step)
        runner.message_hub.update_info("keep_ckpt_ids", list(getattr(self, "keep_ckpt_ids", [])))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        _settle(Path(self.last_ckpt), Path(runner.work_dir), outdated)

    def _shift(self, step: int) -> list[Path]:
        """Count a new checkpoint in; return those that are then too many."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        oldest = [self.keep_ckpt_ids[0]] if full else []
        self.keep_ckpt_ids.append(step)
        return [Path(self.out_dir) / self.filename_tmpl.format(old) for old in oldest]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Save the best one as upstream does, with its removal of the former best put off to the end."""
        former: list[str] = []
        backend: Any = self.file_backend  # type: ignore[has-type]
        self.file_backend = _PutOff(backend, former)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        current = {getattr(self, "best_ckpt_path", None), *getattr(self, "best_ckpt_path_dict", {}).values()}
        for path in former:
            if path not in current:
                backend.remove(path)


class _PutOff:
    """A file backend that notes what it is to remove."""

    def __init__(self, backend: Any, noted: list[str]) -> None:
        self.backend, self.remove = backend, noted.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


@master_only
def _settle(saved: Path, work_dir: Path, outdated: list[Path]) -> None:
    point_to(saved, work_dir)
    for path in [*outdated, saved.with_name(PREEMPTED)]:
        if path != saved:
            path.unlink(missing_ok=True)
