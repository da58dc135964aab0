"""Whether a checkpoint belongs to a model, said in a few words where it does not."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from ibkd_mm.engine.checkpoint.save import check_training_only
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS

_SHOWN = 3


@dataclass(frozen=True)
class Mismatch:
    """What of a checkpoint does not fit: names of weights."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    fitting: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        parts = [("the model misses", self.missing), ("the file has too many", self.unexpected)]
        parts.append(("of another shape", self.reshaped))
        lines = [f"  {what}: {len(names)} ({_grouped(names)})" for what, names in parts if names]
        return "\n".join([f"  fitting: {self.fitting}", *lines, f"  likely cause: {self.likely_cause()}"])

    def likely_cause(self) -> str:
        """Guess why: a prefix, another number of classes, or another model."""
        extra = _prefix(self.unexpected, self.missing)
        if extra:
            return f"the names in the file stand under a prefix, '{extra}'"
        lacking = _prefix(self.missing, self.unexpected)
        if lacking:
            return f"the names in the file lack a prefix, '{lacking}'"
        if self.reshaped and not self.missing and not self.unexpected:
            return "the same architecture with another number of classes or channels"
        return "the checkpoint is of another model than the config's"


def load_matching_weights(model: nn.Module, weights: dict[str, Tensor]) -> Mismatch:
    """Load what fits into the model and say what does not; half-precision weights fit a float32 model."""
    model = unwrap_model(model)
    own = model.state_dict()
    given = OrderedDict((name.removeprefix("module."), value) for name, value in weights.items())
    reshaped = [name for name, value in given.items() if name in own and own[name].shape != value.shape]
    usable: Any = OrderedDict((name, value) for name, value in given.items() if name not in set(reshaped))
    usable._metadata = getattr(weights, "_metadata", OrderedDict())
    result = model.load_state_dict(usable, strict=False)
    skipped = {*reshaped, *(name for name in result.missing_keys if name.endswith("num_batches_tracked"))}
    missing = [name for name in result.missing_keys if name not in skipped]
    fitting = len(usable) - len(result.unexpected_keys)
    return Mismatch(missing, list(result.unexpected_keys), reshaped, fitting)


def _prefix(names: list[str], known: list[str]) -> str | None:
    """Find what stands before most of the names, where what follows it is known."""
    ends, found = set(known), Counter[str]()
    for name in names:
        parts = name.split(".")
        starts = (".".join(parts[:place]) + "." for place in range(1, len(parts)))
        found.update([start for start in starts if name.removeprefix(start) in ends][:1])
    prefix, count = next(iter(found.most_common(1)), (None, 0))
    return prefix if 2 * count > min(len(names), len(known)) else None


def _grouped(names: Iterable[str]) -> str:
    """Name the modules that most of the weights are in: `backbone.layer1 x12, neck.convs x4, ...`."""
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    shown = [f"{module} x{count}" if count > 1 else module for module, count in counts.most_common(_SHOWN)]
    return ", ".join([*shown, "..."] if len(counts) > _SHOWN else shown)


@HOOKS.register_module()
class CheckpointGuard(Hook):
    """Refuse a checkpoint that does not belong to the model.

    Acts after_load_checkpoint, before every other hook.

    Args:
        purpose: 'test' and 'resume' want every weight to fit, 'resume' also the state of the training;
            'load_from' wants that any does, since fine-tuning starts from models with other heads.
    """

    priority = "VERY_HIGH"

    def __init__(self, purpose: str = "test") -> None:
        self.purpose = purpose

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the checkpoint with the model, before mmengine loads what it can and warns of the rest."""
        if self.purpose == "resume":
            _check_training_state(checkpoint)
            check_training_only(unwrap_model(runner.model), checkpoint)
            _keep_to_own_files(checkpoint["message_hub"], Path(runner.work_dir))
        mismatch = load_matching_weights(runner.model, checkpoint["state_dict"])
        if not mismatch:
            return
        if self.purpose != "load_from" or not mismatch.fitting:
            model = type(unwrap_model(runner.model)).__name__
            raise UserError(f"The checkpoint does not fit the model of the config ({model}):\n{mismatch}")
        print_log(f"Only a part of the checkpoint fits the model:\n{mismatch}", "current", logging.WARNING)
        # What fits is loaded; were the rest still there, mmengine would name each weight of it.
        checkpoint["state_dict"] = _copied(unwrap_model(runner.model).state_dict())


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return OrderedDict((name, value.clone()) for name, value in weights.items())


def _check_training_state(checkpoint: dict[str, Any]) -> None:
    lacking = [
        key for key in ("meta", "message_hub", "optimizer") if not isinstance(checkpoint.get(key), dict)
    ]
    if lacking:
        raise UserError(
            f"The checkpoint has no state of a training to go on with (no {', '.join(lacking)}). For its "
            "weights alone, use --cfg-options load_from=PATH instead of --resume."
        )


def _keep_to_own_files(message_hub: dict[str, Any], work_dir: Path) -> None:
    """Leave no file in the state but the run's own: mmengine removes the best one when a better one comes."""
    info = message_hub.get("runtime_info", {})
    for key in [key for key in info if key.startswith("best_ckpt")]:
        own = work_dir / Path(str(info[key])).name
        if own.name.startswith("best_") and own.is_file():
            info[key] = str(own)  # the folder may have been moved
        else:
            del info[key]
            message_hub.get("resumed_keys", {}).pop(key, None)
    if "keep_ckpt_ids" in info:
        info["keep_ckpt_ids"] = [step for step in info["keep_ckpt_ids"] if type(step) is int]
