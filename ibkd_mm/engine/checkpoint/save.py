"""Write checkpoints atomically, with all that a training needs to resume."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to

from ibkd_mm.engine.checkpoint.latest import POINTER, last_checkpoint
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write

# Key of what is trained but not part of the `state_dict`, such as connectors to a teacher. A model offers it
# by the methods `training_only_state()` and `load_training_only_state(state)`.
TRAINING_ONLY = "training_only"


def set_last_checkpoint(checkpoint: Path, work_dir: Path) -> None:
    """Make a checkpoint the one that `--resume` continues from."""
    with checkpoint_file(work_dir / POINTER, work_dir) as partial:
        partial.write_text(str(checkpoint))


@contextmanager
def checkpoint_file(path: Path, work_dir: Path) -> Iterator[Path]:
    """Write a file of a training atomically; UserError names the last checkpoint where the disk fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            yield partial
    except (OSError, RuntimeError) as error:
        reason = find_os_error(error)
        if reason is None:
            raise
        last = last_checkpoint(work_dir)
        remains = f"{last} is complete" if last else "there is no earlier checkpoint"
        raise UserError(
            f"Cannot write {path}: {reason.strerror or reason}. Nothing was overwritten; {remains}. "
            "Free disk space, then continue with --resume."
        ) from error


def find_os_error(error: BaseException | None) -> OSError | None:
    """Return the OSError that caused an error; torch raises an error of its own type instead."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def training_state(runner: Runner, meta: dict[str, Any], by_epoch: bool) -> dict[str, Any]:
    """Return weights, log history and metadata of a run in mmengine's layout."""
    model, metainfo = unwrap_model(runner.model), getattr(runner.train_dataloader.dataset, "metainfo", None)
    return {
        "meta": {
            "epoch": runner.epoch + by_epoch,
            "iter": runner.iter + (not by_epoch),
            **meta,
            "seed": runner.seed,
            "experiment_name": runner.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S"),
            "mmengine_version": mmengine.__version__,
            **({} if metainfo is None else {"dataset_meta": metainfo}),
        },
        "state_dict": weights_to_cpu(model.state_dict()),
        "message_hub": on_cpu(runner.message_hub.state_dict()),
        **({TRAINING_ONLY: training_only_of(model)} if _has_training_only(model) else {}),
    }


def training_only_of(model: Any) -> dict[str, Any]:
    """Return what a model trains besides its `state_dict`, on the CPU; empty for most models."""
    return on_cpu(model.training_only_state()) if _has_training_only(model) else {}


def load_training_only(model: Any, checkpoint: dict[str, Any]) -> None:
    """Load what a model trains besides its `state_dict`."""
    check_training_only(model, checkpoint)
    if TRAINING_ONLY in checkpoint:
        model.load_training_only_state(checkpoint[TRAINING_ONLY])


def check_training_only(model: Any, checkpoint: dict[str, Any]) -> None:
    """Raise UserError if only one of model and checkpoint has a training-only state."""
    if _has_training_only(model) == (TRAINING_ONLY in checkpoint):
        return
    found = "what was trained beside the model's weights, as in a distillation"
    if _has_training_only(model):
        found = "a model's weights, and nothing of what is trained beside them"
    raise UserError(
        f"The checkpoint was not written by a {type(model).__name__}: it has {found}. For the weights alone, "
        "use --cfg-options load_from=PATH instead of --resume."
    )


def _has_training_only(model: Any) -> bool:
    return hasattr(model, "training_only_state")


def on_cpu(state: Any) -> Any:
    """Return a copy of nested dictionaries and lists with all tensors on the CPU."""
    return apply_to(state, lambda value: hasattr(value, "cpu"), lambda value: value.cpu())


def scheduler_states(schedulers: Any) -> Any:
    """Return the states of schedulers: a list, or a dictionary of lists for several optimizers."""
    if isinstance(schedulers, dict):
        return {name: scheduler_states(group) for name, group in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]
