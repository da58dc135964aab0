"""Edit loaded configs: replace values, move paths, change the length of a training, write to a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ibkd_mm.config.overrides import effective_settings
from ibkd_mm.config.walk import changed, dicts
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.digest import hash_of_value

_MIN_STEPS_PER_WARMUP_STEP = 5
_LOG_RECORDS, _KEPT_CHECKPOINTS = 50, 2  # of a training


def replace_values(config: Config, replace: Callable[[Any], Any]) -> Config:
    """Copy the settings of a config that have effect, each value replaced by `replace(value)`."""
    settings = Config(effective_settings(config)).to_dict()
    return Config(changed(settings, lambda value, _: replace(value)))


def replace_path_prefixes(config: Config, prefixes: Mapping[str, str]) -> Config:
    """Copy a config; in each string that starts with one of the prefixes, replace the first that matches."""

    def replace(value: Any) -> Any:
        old = next((old for old in prefixes if isinstance(value, str) and value.startswith(old)), None)
        return value if old is None else prefixes[old] + value[len(old) :]

    return replace_values(config, replace)


def hash_configs(configs: Mapping[str, Config]) -> str:
    """Hash the settings of named configs that have effect: 16 hexadecimal digits."""
    return hash_of_value({name: effective_settings(config) for name, config in configs.items()})[:16]


def set_training_length(config: Config, steps: int, checkpoint_interval: int) -> None:
    """Make a training that many steps long and scale its schedules, whether they count epochs or steps.

    A warm-up counted in steps keeps its length up to a fifth of the training, which validates at its end.
    """
    former = config.train_cfg.get("max_iters") or config.train_cfg.max_epochs

    def rescale(value: int, is_share: bool) -> int:
        if is_share or 2 * value > former:
            return max(round(value * steps / former), min(value, 1))
        return min(value, max(1, steps // _MIN_STEPS_PER_WARMUP_STEP))

    schedulers = config.param_scheduler
    config.param_scheduler = schedulers = schedulers if isinstance(schedulers, list) else [schedulers]
    for scheduler in schedulers:
        for key in {"begin", "end"} & set(scheduler):
            scheduler[key] = rescale(scheduler[key], scheduler.get("by_epoch", True))
        if "milestones" in scheduler:
            scheduler.milestones = [rescale(milestone, True) for milestone in scheduler.milestones]
        scheduler.by_epoch = False
        scheduler.pop("convert_to_iter_based", None)
    for hook in config.get("custom_hooks") or []:
        if "last" in hook:
            hook["last"] = rescale(hook["last"], True)
    for settings in dicts(config.get("default_hooks") or {}):
        if "warmup" in settings:
            settings["warmup"] = rescale(settings["warmup"], False)
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": steps}
    checkpoint = {"by_epoch": False, "interval": checkpoint_interval, "max_keep_ckpts": _KEPT_CHECKPOINTS}
    logger = {"type": "LoggerHook", "interval": max(1, steps // _LOG_RECORDS)}
    hooks = {"checkpoint": checkpoint, "logger": logger}
    config.merge_from_dict({"log_processor": {"by_epoch": False}, "default_hooks": hooks})


def write_config(config: Config, file: Path) -> None:
    """Write a config that can be loaded and run on its own."""
    with atomic_write(file) as partial:
        partial.write_text(config.pretty_text)
