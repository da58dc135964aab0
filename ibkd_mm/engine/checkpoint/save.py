"""Checkpoints that are whole or not there: written beside, synced, renamed; then older ones are removed."""

import logging
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

from ibkd_mm.engine.checkpoint.load import load_weights
from ibkd_mm.engine.model_wrappers import optim_wrappers, unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS
from ibkd_mm.utils.atomic import PARTIAL, atomic_write

POINTER, PREEMPTED = "last_checkpoint", "preempted.pth"
TRAINING_ONLY = "training_only"
"""Where a checkpoint holds what is trained and not kept; a model gives it as `training_only_state`."""


def set_last_checkpoint(checkpoint: Path, work_dir: Path) -> None:
    """Name the checkpoint that `--resume` goes on from."""
    with checkpoint_file(work_dir / POINTER, work_dir) as partial:
        partial.write_text(str(checkpoint))


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint that was written last, if any."""
    pointer = work_dir / POINTER
    return Path(pointer.read_text().strip()) if pointer.is_file() else None


@contextmanager
def checkpoint_file(path: Path, work_dir: Path) -> Iterator[Path]:
    """Write a file of a training whole, or leave what was there and say what remains."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            yield partial
    except (OSError, RuntimeError) as error:
        reason = find_os_error(error)
        if reason is None:
            raise
        raise _cannot_write(path, work_dir, reason) from error


def find_os_error(error: BaseException | None) -> OSError | None:
    """Find what the disk said; torch hides it behind an error of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


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
    model: Any = unwrap_model(runner.model)
    beside = {TRAINING_ONLY: training_only_of(model)} if _has_more(model) else {}
    return {
        "meta": {**step, **meta, **run},
        "state_dict": weights_to_cpu(model.state_dict()),
        "message_hub": on_cpu(runner.message_hub.state_dict()),
        **beside,
    }


def training_only_of(model: Any) -> dict[str, Any]:
    """Copy what a model trains and does not keep; nothing for most."""
    return on_cpu(model.training_only_state()) if _has_more(model) else {}


def load_training_only(model: Any, checkpoint: dict[str, Any]) -> None:
    """Give a model that trains more than it keeps, as one with connectors to a teacher, the rest back."""
    check_training_only(model, checkpoint)
    if _has_more(model):
        model.load_training_only_state(checkpoint[TRAINING_ONLY])


def check_training_only(model: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse to go on with more than the checkpoint's training had, or with less."""
    if _has_more(model) == (TRAINING_ONLY in checkpoint):
        return
    found = (
        "it has a model's weights, and nothing of what is trained beside them"
        if _has_more(model)
        else "it has what was trained beside the model's weights, as in a distillation"
    )
    raise UserError(
        f"The checkpoint was not written by a {type(model).__name__}: {found}. For the weights alone, use "
        "--cfg-options load_from=PATH instead of --resume."
    )


def _has_more(model: Any) -> bool:
    return hasattr(model, "training_only_state")


def on_cpu(state: Any) -> Any:
    """Copy what is on another device."""
    return apply_to(state, lambda value: hasattr(value, "cpu"), lambda value: value.cpu())


def schedules(schedulers: Any) -> Any:
    """Gather the states of schedulers, of one optimizer or of several by name."""
    if isinstance(schedulers, dict):
        return {name: schedules(own) for name, own in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]


def _cannot_write(path: Path, work_dir: Path, error: OSError) -> UserError:
    last = last_checkpoint(work_dir)
    remains = f"{last} is whole" if last else "there is no earlier checkpoint"
    return UserError(
        f"Cannot write {path}: {error.strerror or error}. Nothing was overwritten; {remains}. "
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
    target = last_checkpoint(work_dir)
    named = [path for path in (work_dir / target.name, target) if path.is_file()] if target else []
    others = sorted(work_dir.glob("*.pth"), key=lambda path: path.stat().st_mtime, reverse=True)
    return list(dict.fromkeys([*named[:1], *(path for path in others if not path.name.startswith("best_"))]))


def is_accumulating(runner: Runner) -> bool:
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
    set_last_checkpoint(saved, work_dir)
    for path in [*outdated, work_dir / PREEMPTED]:
        if path != saved:
            path.unlink(missing_ok=True)
