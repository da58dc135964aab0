"""Find, read and override a config, and check that it is complete."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ibkd_mm.config.overrides import apply_overrides
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import MODELS
from ibkd_mm.stack.frames import find_config_line

Options: TypeAlias = Mapping[str, Any] | Sequence[str] | None
ConfigLike: TypeAlias = Config | str | Path

_SUFFIXES = (".py", ".json", ".yaml", ".yml")
_REQUIRED = {
    "training": ("model", "train_dataloader", "train_cfg", "optim_wrapper"),
    "test": ("model", "test_dataloader", "test_cfg", "test_evaluator"),
}


class ModelReference(NamedTuple):
    """The settings of a model, its checkpoint, and the registry scope of the names in the settings."""

    settings: Mapping[str, Any]
    checkpoint: str | None
    scope: str | None


def resolve_model(model: str | Mapping[str, Any], checkpoint: str | None) -> ModelReference:
    """Find a model by the path of its config, as in `read_config`, or by its settings.

    The checkpoint is a path, URL or `ibkd_mm::NAME`; without one, what the config's `load_from` names.
    """
    if not isinstance(model, str):
        return ModelReference(model, checkpoint, None)
    config = read_config(model)
    return ModelReference(config.model, checkpoint or config.get("load_from"), config.get("default_scope"))


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
        purpose: 'training' or 'test', which needs certain keys; a test keeps only a distillation's student.
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


def read_config(path: str | Path) -> Config:
    """Read a config from a file, or from one inside a package: `mmdet::folder/name.py`."""
    file = find_config(str(path))
    try:
        return Config.fromfile(str(file))
    except Exception as error:  # a config is a program and may raise anything
        raise UserError(_explain_unreadable(file, error)) from error


def find_config(path: str) -> Path:
    """Find the file that a path or `package::path` names."""
    if "::" in path:
        return _find_in_package(*path.split("::", 1))
    file = Path(path).expanduser()
    if file.suffix not in _SUFFIXES and not file.is_file() and file.with_name(f"{file.name}.py").is_file():
        return file.with_name(f"{file.name}.py")
    if file.is_dir():
        raise UserError(f"Expected a config file, found the folder {file}.")
    if not file.is_file():
        siblings = [found.name for found in file.parent.glob("*.py")]
        raise UserError(f"There is no config {file}.{did_you_mean(file.name, siblings)}")
    if file.suffix not in _SUFFIXES:
        raise UserError(f"Expected a config ending in {', '.join(_SUFFIXES)}, found {file}.")
    return file


def _find_in_package(package: str, path: str) -> Path:
    """Find a config in a package's `.mim/configs`, without calling pip as mmengine does."""
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        hint = did_you_mean(package, ["mmdet", "mmseg", "mmrazor", "ibkd_mm"])
        raise UserError(f"No package '{package}' is installed, which {package}::{path} names.{hint}")
    folder = Path(spec.origin).parent / ".mim" / "configs"
    name = path if path.endswith(_SUFFIXES) else f"{path}.py"
    if (folder / name).is_file():
        return folder / name
    hint = did_you_mean(name, [found.relative_to(folder).as_posix() for found in folder.rglob("*.py")])
    raise UserError(f"Package {package} has no config {path}.{hint} Its configs are in {folder}.")


def _explain_unreadable(file: Path, error: Exception) -> str:
    faulty, line = find_config_line(error)
    where = f"{faulty or file}, line {line}," if line else f"{faulty or file}"
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, FileNotFoundError):
        what = f"a file that it inherits does not exist: {error.filename or error}"
    elif isinstance(error, SyntaxError):
        what = f"syntax error: {error.msg}"
    elif isinstance(error, ImportError):
        what = f"an import fails: {error.__cause__ or error}"
    return f"The config {where} cannot be read: {what}"
