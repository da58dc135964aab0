"""Load a config, override its settings, and check that it is complete."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ibkd_mm.config.overrides import apply_overrides
from ibkd_mm.config.read import read_config
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

Options: TypeAlias = Mapping[str, Any] | Sequence[str] | None
ConfigLike: TypeAlias = Config | str | Path

_REQUIRED = {
    "training": ("model", "train_dataloader", "train_cfg", "optim_wrapper"),
    "test": ("model", "test_dataloader", "test_cfg", "test_evaluator"),
}


def load_config(path: str | Path, options: Options = None) -> Config:
    """Read a config and override settings of it.

    Args:
        path: a file, or one inside a package: `mmdet::folder/name.py`, `mmseg::...`, `ibkd_mm::...`.
        options: `{'key.of.setting': value}`, or `['key.of.setting=value', ...]` as on the command line.
    """
    config = read_config(path)
    apply_overrides(config, options or {})
    return config


def prepare_config(
    config: ConfigLike,
    options: Options,
    purpose: str | None = None,
    *,
    add_defaults: Callable[[Config], None] | None = None,
) -> Config:
    """Read or copy a config, override settings, check that it is complete, and enter its registry scope.

    Args:
        config: a config, its path, or `package::path`.
        options: as for `load_config`.
        purpose: 'training' or 'test', whose keys must be there; for a test only the student of a
            distillation is kept.
        add_defaults: adds settings to the config before the options, which may change them, are applied.
    """
    ready = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
    if add_defaults is not None:
        add_defaults(ready)
    apply_overrides(ready, options or {})
    if purpose is not None:
        check_keys(ready, purpose)
    if purpose == "test":
        ready.model = student_config(ready.model)
    init_default_scope(ready.get("default_scope") or "mmdet")
    return ready


def student_config(model: Any) -> Any:
    """Return the student's part of a distillation's model settings; other model settings as they are.

    A model class that trains a student has a static method `student_config(model settings)`.
    """
    model_class = model.get("type")
    if isinstance(model_class, str):
        with suppress(Exception):  # an unknown type or a failing import, which building the model reports
            model_class = MODELS.get(model_class)
    return model_class.student_config(model) if hasattr(model_class, "student_config") else model


def check_keys(config: Config, purpose: str) -> None:
    """Raise UserError where a config has not all keys that a training or a test needs."""
    missing = [key for key in _REQUIRED[purpose] if config.get(key) is None]
    if missing:
        raise UserError(
            f"{config.filename or 'The config'} has no {', '.join(missing)}, which a {purpose} needs. "
            "Is it a part that other configs inherit, as those in _base_/ are?"
        )
