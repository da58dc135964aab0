"""The hook that refuses a checkpoint that does not fit the model."""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ibkd_mm.engine.checkpoint.save import check_training_only
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS


@HOOKS.register_module()
class CheckpointGuard(Hook):
    """Refuse a checkpoint that does not fit the model, before every other hook.

    Args:
        purpose: 'test' and 'resume' require that all weights match, 'resume' also the state of the training;
            'load_from' requires that any weight matches, since fine-tuning may change the heads.
    """

    priority = "VERY_HIGH"

    def __init__(self, purpose: str = "test") -> None:
        self.purpose = purpose

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare checkpoint and model."""
        model = unwrap_model(runner.model)
        if self.purpose == "resume":
            _check_training_state(checkpoint)
            check_training_only(model, checkpoint)
            _keep_files_of_run(checkpoint["message_hub"], Path(runner.work_dir))
        mismatch = load_matching_weights(model, checkpoint["state_dict"])
        if not mismatch:
            return
        if self.purpose != "load_from" or not mismatch.matched:
            name = type(model).__name__
            raise UserError(f"The checkpoint does not fit the model of the config ({name}):\n{mismatch}")
        print_log(f"Only a part of the checkpoint fits the model:\n{mismatch}", "current", logging.WARNING)
        # mmengine would log every weight that does not match; it loads these, which are loaded already.
        checkpoint["state_dict"] = OrderedDict((n, value.clone()) for n, value in model.state_dict().items())


def _check_training_state(checkpoint: dict[str, Any]) -> None:
    keys = ("meta", "message_hub", "optimizer")
    if missing := [key for key in keys if not isinstance(checkpoint.get(key), dict)]:
        raise UserError(
            f"The checkpoint has no state of a training to continue (no {', '.join(missing)}). For its "
            "weights alone, use --cfg-options load_from=PATH instead of --resume."
        )


def _keep_files_of_run(message_hub: dict[str, Any], work_dir: Path) -> None:
    """Drop files outside the run's folder from the state: mmengine removes the best one for a better one."""
    info = message_hub.get("runtime_info", {})
    for key in [key for key in info if key.startswith("best_ckpt")]:
        path = work_dir / Path(str(info[key])).name
        if path.name.startswith("best_") and path.is_file():
            info[key] = str(path)  # the folder may have been moved
        else:
            del info[key]
            message_hub.get("resumed_keys", {}).pop(key, None)
    if "keep_ckpt_ids" in info:
        info["keep_ckpt_ids"] = [step for step in info["keep_ckpt_ids"] if type(step) is int]
