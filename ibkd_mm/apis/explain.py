"""Known errors of the packages below, said in terms of the user's config and files.

An error is the user's where it comes from building what the config names, or from a file that it names. What
goes wrong inside a step keeps its traceback.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config

from ibkd_mm.apis.explain_build import at, explain_build, frames_of
from ibkd_mm.apis.overrides import read_by_runner, walk
from ibkd_mm.errors import UserError
from ibkd_mm.stack.ops import MissingOperatorError

# What torch puts around an error of a data loader's worker; the last line is the error itself.
_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker process.*\n(?P<last>[^\n]+?)\s*\Z", re.S)
_SHORTEST_PATH = 4


@contextmanager
def explained(config: Config) -> Iterator[None]:
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
        _missing_file(error, text, config)
        or _unreadable_annotations(error)
        or _said_already(error, text)
        or explain_build(error, text, config)
    )


def _text(error: Exception) -> str:
    """The error's own words, without quotes and without what a worker of a data loader puts around them."""
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    in_worker = _IN_WORKER.match(said)
    return in_worker["last"].partition(": ")[2] if in_worker else said


def _missing_file(error: Exception, text: str, config: Config) -> str | None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        return None
    quoted = re.search(r"['\"]([^'\"]+)['\"]", text)
    path = str(error.filename) if error.filename else quoted.group(1) if quoted else text
    problem = "cannot be read" if isinstance(error, PermissionError) else "does not exist"
    where = at(config, _places_of_path(config, path))
    return f"The file {path} {problem}{where}. Put it there, or correct the path."


def _places_of_path(config: Config, path: str) -> list[str]:
    """Settings that the path was put together from, those of its end first."""
    found = [
        (-(path.rindex(value) + len(value)), f"{place}='{value}'")
        for place, value in walk(read_by_runner(config))
        if isinstance(value, str) and len(value) >= _SHORTEST_PATH and value in path
    ]
    last = min((end for end, _ in found), default=0)
    return [shown for end, shown in found if end == last]


def _unreadable_annotations(error: Exception) -> str | None:
    if not isinstance(error, json.JSONDecodeError):
        return None
    for frame in reversed(frames_of(error)):
        for name in ("annotation_file", "local_path", "filepath", "ann_file"):
            if isinstance(frame.f_locals.get(name), str):
                return (
                    f"The annotation file {frame.f_locals[name]} is not valid JSON: {error}. Is it cut short?"
                )
    return None


def _said_already(error: Exception, text: str) -> str | None:
    """Errors that are clear as they are, or by their words."""
    if isinstance(error, MissingOperatorError):
        return text
    if "failed to load image" in text:
        return f"An image cannot be decoded: {text.partition(': ')[2] or text}. Is it damaged or cut short?"
    if "TTA of instance segmentation" in text:
        return "--tta cannot merge instance masks, and this model predicts them. Leave --tta out."
    if "only available training on gpu" in text:
        return "optim_wrapper.type='AmpOptimWrapper' needs a GPU. On a CPU use --amp, which takes bfloat16."
    if isinstance(error, AssertionError) and frames_of(error)[-1].f_code.co_name == "_check_head":
        return f"The model and the data set do not agree: {text}"
    return None
