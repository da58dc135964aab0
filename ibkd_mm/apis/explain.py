"""Known errors of the packages below, said in terms of the user's config and files.

An error is the user's where it comes from building what the config names, or from a file that it names. What
goes wrong inside a step keeps its traceback.
"""

import inspect
import json
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from ibkd_mm.apis.overrides import walk
from ibkd_mm.errors import UserError, did_you_mean

_PLACES_SHOWN = 3
# What torch puts around an error of a data loader's worker; the last line is the error itself.
_IN_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process.*\n(?P<last>[^\n]+?)\s*\Z", re.S)


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
    frame = _frame_of(error, "build_from_cfg")
    explanations: tuple[Callable[[], str | None], ...] = (
        lambda: _unknown_type(error, frame, config),
        lambda: _wrong_arguments(error, frame, config),
        lambda: _missing_file(error, text, config),
        lambda: _unreadable_annotations(error, config),
        lambda: _known_text(text),
        lambda: _refused_by_constructor(error, text, frame, config),
    )
    return next((message for make in explanations if (message := make())), None)


def _text(error: Exception) -> str:
    in_worker = _IN_WORKER.match(str(error))
    return in_worker["last"].partition(": ")[2] if in_worker else str(error)


def _frame_of(error: Exception, function: str) -> FrameType | None:
    """The innermost call of a function on the way to the error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((frame for frame in reversed(frames) if frame.f_code.co_name == function), None)


def _is_raised_in(error: Exception, frame: FrameType | None) -> bool:
    frames = [found for found, _ in traceback.walk_tb(error.__traceback__)]
    return frame is not None and frames[-1] is frame


def _unknown_type(error: Exception, frame: FrameType | None, config: Config) -> str | None:
    if frame is None or not isinstance(error, KeyError | RuntimeError):
        return None
    if not ("is not in the" in str(error) or "Failed to get" in str(error)):
        return None
    kind, registry = frame.f_locals.get("obj_type"), frame.f_locals.get("registry")
    if not isinstance(kind, str) or not isinstance(registry, Registry):
        return None
    hint = did_you_mean(kind, _names(registry))
    return f"No {registry.name} is named '{kind}'{_at(config, _places_of_type(config, kind))}.{hint}"


def _names(registry: Registry) -> set[str]:
    """All names that may be written where this registry is asked, with the scope where it must be."""
    names = set(registry.module_dict)
    above = registry.parent
    while above is not None:
        names |= set(above.module_dict)
        names |= {f"{scope}.{name}" for scope, child in above.children.items() for name in child.module_dict}
        above = above.parent
    return names


def _wrong_arguments(error: Exception, frame: FrameType | None, config: Config) -> str | None:
    if not isinstance(error, TypeError) or frame is None or not _is_raised_in(error, frame):
        return None
    made, given = frame.f_locals.get("obj_cls"), frame.f_locals.get("args") or {}
    if not callable(made):
        return None
    name = getattr(made, "__name__", str(made))
    known = list(_arguments(made))
    wrong = [key for key in given if key not in known and key in str(error)]
    hint = did_you_mean(wrong[0], known) if wrong else ""
    problem = re.sub(r"^.*?__init__\(\) ", "", str(error))
    return f"{name} cannot be built{_at(config, _places_of_type(config, name))}: {problem}.{hint}"


def _arguments(made: Callable[..., Any]) -> Iterator[str]:
    """Names of arguments, those of base classes too where `**kwargs` passes them on."""
    for owner in getattr(made, "__mro__", (made,)):
        try:
            yield from (
                key for key in inspect.signature(owner).parameters if key not in ("self", "args", "kwargs")
            )
        except (TypeError, ValueError):
            continue


def _missing_file(error: Exception, text: str, config: Config) -> str | None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        return None
    quoted = re.search(r"['\"]([^'\"]+)['\"]", text)
    path = str(error.filename) if error.filename else quoted.group(1) if quoted else text
    problem = "cannot be read" if isinstance(error, PermissionError) else "does not exist"
    places = [
        f"{place}='{value}'"
        for place, value in walk(dict(config.items()))
        if isinstance(value, str) and len(value) > 3 and (path.endswith(value) or path.startswith(value))
    ]
    return f"The file {path} {problem}{_at(config, places)}. Put it there, or correct the path in the config."


def _unreadable_annotations(error: Exception, config: Config) -> str | None:
    if not isinstance(error, json.JSONDecodeError):
        return None
    for name in ("annotation_file", "local_path", "filepath", "ann_file"):
        for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
            path = frame.f_locals.get(name)
            if isinstance(path, str):
                return f"The annotation file {path} is not valid JSON: {error}. Is it cut short?"
    return f"An annotation file that {config.filename} names is not valid JSON: {error}. Is it cut short?"


def _known_text(text: str) -> str | None:
    if "failed to load image" in text:
        return f"An image cannot be decoded: {text.partition(': ')[2] or text}. Is it damaged or cut short?"
    if "TTA of instance segmentation" in text:
        return "--tta cannot merge instance masks, and this model predicts them. Leave --tta out."
    if "only available training on gpu" in text:
        return "optim_wrapper.type='AmpOptimWrapper' needs a GPU. On a CPU use --amp, which takes bfloat16."
    return None


def _refused_by_constructor(
    error: Exception, text: str, frame: FrameType | None, config: Config
) -> str | None:
    """Asserts and ValueErrors of constructors, and the check of class counts, are about the config."""
    if _frame_of(error, "_check_head") is not None and isinstance(error, AssertionError):
        return f"The model and the data set of {config.filename} do not agree: {text}"
    if frame is None or not isinstance(error, AssertionError | ValueError | NotImplementedError):
        return None
    name = getattr(frame.f_locals.get("obj_cls"), "__name__", "?")
    problem = text or f"an assertion in {traceback.extract_tb(error.__traceback__)[-1].line}"
    return f"{name} cannot be built{_at(config, _places_of_type(config, name))}: {problem}"


def _places_of_type(config: Config, name: str) -> list[str]:
    short = name.rpartition(".")[2]
    return [
        place.removesuffix(".type")
        for place, value in walk(dict(config.items()))
        if place.endswith("type") and isinstance(value, str) and value.rpartition(".")[2] == short
    ]


def _at(config: Config, places: list[str]) -> str:
    shown = ", ".join(places[:_PLACES_SHOWN])
    more = f" and {len(places) - _PLACES_SHOWN} more places" if len(places) > _PLACES_SHOWN else ""
    return (
        f" (config key {shown}{more})"
        if places
        else f" (config {config.filename})"
        if config.filename
        else ""
    )
