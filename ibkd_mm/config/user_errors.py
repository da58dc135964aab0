"""Explain errors about what a config names: an unknown type, a wrong argument, an unusable file."""

import errno
import json
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import Registry

from ibkd_mm.config.overrides import effective_settings
from ibkd_mm.config.walk import walk
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.stack.frames import FailedBuild, find_annotation_file, find_failed_build, find_unknown_type
from ibkd_mm.stack.ops.extension import MissingOperatorError

_PLACES_SHOWN = 3
_REFUSALS = (TypeError, AssertionError, ValueError, KeyError, NotImplementedError)
_WRITE_ERRORS = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST)
_MIN_PATH_LENGTH = 4
_QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


@contextmanager
def user_errors(config: Config) -> Iterator[None]:
    """Turn errors that the user can fix in the config or its files into UserError.

    Others, such as those inside a training step, keep their traceback.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or (message := _explain(error, config)) is None:
            raise
        raise UserError(message) from error


def _explain(error: Exception, config: Config) -> str | None:
    if isinstance(error, MissingOperatorError):
        return str(error)
    if isinstance(error, OSError):
        return _explain_file(error, config)
    if isinstance(error, json.JSONDecodeError) and (file := find_annotation_file(error)):
        return f"The annotation file {file} is not valid JSON: {error}. Is it cut short?"
    if unknown := find_unknown_type(error):
        return _explain_unknown_type(*unknown, config)
    if isinstance(error, _REFUSALS) and (build := find_failed_build(error)):
        return _explain_wrong_argument(error, build, config)
    return None


def _explain_unknown_type(name: str, registry: Registry, config: Config) -> str:
    hint = did_you_mean(name, _registered_names(registry))
    return f"No {registry.name} is named '{name}'{_name_keys(config, _keys_of_type(config, name))}.{hint}"


def _registered_names(registry: Registry) -> set[str]:
    """Return all names that this registry finds, with their scope where it must be written."""
    names, parent = set(registry.module_dict), registry.parent
    while parent is not None:
        names |= set(parent.module_dict)
        names |= {f"{scope}.{name}" for scope, child in parent.children.items() for name in child.module_dict}
        parent = parent.parent
    return names


def _explain_wrong_argument(error: Exception, build: FailedBuild, config: Config) -> str:
    text = str(error)
    if isinstance(error, KeyError):  # which quotes its message, if it has one
        text = str(error.args[0]) if " " in text else f"the key {text} is missing"
    elif not text:  # an assertion without a message
        text = f"it requires {traceback.extract_tb(error.__traceback__)[-1].line}"
    keys, hint = _keys_of_type(config, build.name), ""
    if unexpected := _UNEXPECTED.search(text):
        argument, parents = unexpected[1], tuple(f"{key}." for key in keys)
        paths = (path for path, _ in walk(effective_settings(config)) if path.startswith(parents))
        keys = [path for path in paths if path.endswith(f".{argument}")] or keys
        # an argument that is not in these settings belongs to a call that the constructor makes
        hint = did_you_mean(argument, build.parameter_names()) if argument in build.arguments else ""
    return f"{build.name} cannot be built{_name_keys(config, keys)}: {text.rstrip('.')}.{hint}"


def _explain_file(error: OSError, config: Config) -> str | None:
    text = str(error).strip().rpartition("\n")[2]  # a worker of a data loader puts its traceback first
    quoted = _QUOTED.findall(text)
    path = str(error.filename or (quoted[-1] if quoted else ""))
    where = _name_keys(config, _keys_of_path(config, path))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"The file {path or text} does not exist{where}. Put it there, or correct the path."
    reason = error.strerror or text
    if error.errno in _WRITE_ERRORS or _is_in_work_dir(path, config):
        return f"{path or 'A file'} cannot be written: {reason}. Make that possible, or choose another place."
    if path:
        return f"The file {path} cannot be used{where}: {reason}. Correct that, or the path."
    return text if type(error) is OSError and error.errno is None else None


def _is_in_work_dir(path: str, config: Config) -> bool:
    """Whether a path is the folder of the run's files, inside it, or a parent of it."""
    work_dir, file = Path(config.get("work_dir") or ".").absolute(), Path(path).absolute()
    return bool(path) and (file in (work_dir, *work_dir.parents) or work_dir in file.parents)


def _name_keys(config: Config, keys: list[str]) -> str:
    if not keys:
        return f" (config {config.filename})" if config.filename else ""
    more = f" and {len(keys) - _PLACES_SHOWN} more places" if len(keys) > _PLACES_SHOWN else ""
    return f" (config key {', '.join(keys[:_PLACES_SHOWN])}{more})"


def _keys_of_type(config: Config, name: str) -> list[str]:
    """Find the settings whose type has this name, with or without a scope."""
    short = name.rpartition(".")[2]
    return [
        key.removesuffix(".type")
        for key, value in walk(effective_settings(config))
        if key.endswith("type") and isinstance(value, str) and value.rpartition(".")[2] == short
    ]


def _keys_of_path(config: Config, path: str) -> list[str]:
    """Find the settings whose value is the end of a path, such as a file name that was joined to a folder."""
    found = [
        (path.rindex(value) + len(value), f"{key}='{value}'")
        for key, value in walk(effective_settings(config))
        if isinstance(value, str) and len(value) >= _MIN_PATH_LENGTH and value in path
    ]
    last = max((end for end, _ in found), default=0)
    return [key for end, key in found if end == last]
