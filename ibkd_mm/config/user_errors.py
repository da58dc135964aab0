"""Known errors of the packages below, said in terms of the user's config and files.

An error is the user's where it comes from building what the config names, or from a file that it names. What
goes wrong inside a step keeps its traceback.
"""

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from ibkd_mm.config.build_errors import at, explain_build
from ibkd_mm.config.overrides import effective_settings
from ibkd_mm.config.walk import walk
from ibkd_mm.errors import UserError
from ibkd_mm.stack.frames import annotations_being_read
from ibkd_mm.stack.ops import MissingOperatorError

# What torch puts around an error of a data loader's worker; the last line is the error itself.
_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process.*\n(?P<last>[^\n]+?)\s*\Z", re.S)
_SHORTEST_PATH = 4
_OF_WRITING = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST)


@contextmanager
def user_errors(config: Config) -> Iterator[None]:
    """Turn errors that the user can mend into UserError; let the others pass."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = explain(error, config)
        if message is None:
            raise
        raise UserError(message) from error


def explain(error: Exception, config: Config) -> str | None:
    """Say what the user can mend, or None where the fault is not in config or files."""
    text = _text(error)
    return (
        _unusable_file(error, text, config)
        or _unreadable_annotations(error)
        or _said_already(error, text)
        or explain_build(error, text, config)
    )


def _text(error: Exception) -> str:
    """The error's own words, without quotes and without what a worker of a data loader puts around them."""
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    in_worker = _IN_WORKER.match(said)
    return in_worker["last"].partition(": ")[2] if in_worker else said


def _unusable_file(error: Exception, text: str, config: Config) -> str | None:
    if not isinstance(error, OSError):
        return None
    quoted = re.search(r"['\"]([^'\"]+)['\"]", text)
    path = str(error.filename or (quoted.group(1) if quoted else ""))
    where = at(config, _places_of_path(config, path))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"The file {path or text} does not exist{where}. Put it there, or correct the path."
    why = error.strerror or text
    if error.errno in _OF_WRITING or _lies_in_work_dir(path, config):
        return f"{path or 'A file'} cannot be written: {why}. Make that possible, or choose another place."
    return f"The file {path} cannot be used{where}: {why}. Correct that, or the path." if path else None


def _lies_in_work_dir(path: str, config: Config) -> bool:
    """Whether a path is in the folder of the run's files, or is one that leads there."""
    work_dir, lies = Path(config.get("work_dir") or ".").absolute(), Path(path).absolute()
    return bool(path) and (lies in (work_dir, *work_dir.parents) or work_dir in lies.parents)


def _places_of_path(config: Config, path: str) -> list[str]:
    """Settings that the path was put together from, those of its end first."""
    found = [
        (-(path.rindex(value) + len(value)), f"{place}='{value}'")
        for place, value in walk(effective_settings(config))
        if isinstance(value, str) and len(value) >= _SHORTEST_PATH and value in path
    ]
    last = min((end for end, _ in found), default=0)
    return [shown for end, shown in found if end == last]


def _unreadable_annotations(error: Exception) -> str | None:
    file = annotations_being_read(error) if isinstance(error, json.JSONDecodeError) else None
    return f"The annotation file {file} is not valid JSON: {error}. Is it cut short?" if file else None


def _said_already(error: Exception, text: str) -> str | None:
    """Errors that are clear as they are, or by their words."""
    if isinstance(error, MissingOperatorError) or "is the disk full?" in text:
        return text
    if "failed to load image" in text:
        return f"An image cannot be decoded: {text.partition(': ')[2] or text}. Is it damaged or cut short?"
    if "TTA of instance segmentation" in text:
        return "--tta cannot merge instance masks, and this model predicts them. Leave --tta out."
    if "only available training on gpu" in text:
        return "optim_wrapper.type='AmpOptimWrapper' needs a GPU. On a CPU use --amp, which replaces it."
    if isinstance(error, AssertionError) and "does not matches the length of `classes`" in text:
        return f"The model and the data set do not agree: {text}"
    return None
