"""Configs: read, overridden, and whole enough for what is to be done."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ibkd_mm.config.overrides import apply_overrides
from ibkd_mm.config.read import read_config
from ibkd_mm.errors import UserError

Options = Mapping[str, Any] | Sequence[str] | None
ConfigLike = Config | str | Path

_WHOLE_TRAINING = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
_WHOLE_TEST = ("model", "test_dataloader", "test_cfg", "test_evaluator")


def load_config(path: str | Path, options: Options = None) -> Config:
    """Read a config and override settings of it.

    Args:
        path: a file, or one inside a package: `mmdet::folder/name.py`, `mmseg::...`, `ibkd_mm::...`.
        options: `{'key.of.setting': value}`, or `['key.of.setting=value', ...]` as on the command line.
    """
    config = read_config(path)
    apply_overrides(config, options or {})
    return config


def prepare_config(config: ConfigLike, options: Options, purpose: str | None = None) -> Config:
    """Read or copy a config, override settings, check that it is complete, and enter its registry scope.

    Args:
        config: a config, its path, or `package::path`.
        options: as for `load_config`.
        purpose: 'training' or 'test', whose keys must be there; a test keeps only the student of a distillation.
    """
    ready = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
    apply_overrides(ready, options or {})
    if purpose is not None:
        check_keys(ready, purpose)
    if purpose == "test":
        keep_student_only(ready)
    init_default_scope(ready.get("default_scope") or "mmdet")
    return ready


def keep_student_only(config: Config) -> None:
    """Leave of a distillation the student, which is what is tested and deployed; it needs no teacher."""
    if str(config.model.get("type")).rpartition(".")[2] == "FrozenTeacherDistill":
        config.model = config.model.architecture


def check_keys(config: Config, purpose: str) -> None:
    """Refuse a config that lacks what a training or a test needs, such as one from `_base_/`."""
    wanted = _WHOLE_TEST if purpose == "test" else _WHOLE_TRAINING
    lacking = [key for key in wanted if config.get(key) is None]
    if lacking:
        raise UserError(
            f"{config.filename or 'The config'} lacks {', '.join(lacking)}, which a {purpose} needs. "
            "Is it a part that other configs inherit, as those in _base_/ are?"
        )
