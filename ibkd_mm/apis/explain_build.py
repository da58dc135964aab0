"""Errors of building what a config names: unknown types, wrong arguments, refusals of constructors."""

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from ibkd_mm.apis.overrides import walk
from ibkd_mm.errors import did_you_mean

_PLACES_SHOWN = 3
_NOT_FOUND = (
    "is not in the",
    "Failed to get",
    "Cannot find None in registry",
    "None is not a callable object",
)
_REFUSALS = (AssertionError, ValueError, NotImplementedError)


def explain_build(error: Exception, text: str, config: Config) -> str | None:
    """Say what the config asks for that cannot be built, or None where the error is of another kind."""
    frame = _building(error)
    return (
        _unknown_type(error, config)
        or _wrong_arguments(error, frame, config)
        or _refused_by_constructor(error, text, frame, config)
        or _refused_by_runner(error, text)
    )


def frames_of(error: Exception) -> list[FrameType]:
    """The calls on the way to the error, innermost last."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def at(config: Config, places: list[str]) -> str:
    """Name the settings that a message is about."""
    shown = ", ".join(places[:_PLACES_SHOWN])
    more = f" and {len(places) - _PLACES_SHOWN} more places" if len(places) > _PLACES_SHOWN else ""
    if places:
        return f" (config key {shown}{more})"
    return f" (config {config.filename})" if config.filename else ""


def _building(error: Exception) -> FrameType | None:
    """The innermost call that was building something from the config."""
    return next(
        (frame for frame in reversed(frames_of(error)) if frame.f_code.co_name == "build_from_cfg"), None
    )


def _unknown_type(error: Exception, config: Config) -> str | None:
    if not any(words in str(error) for words in _NOT_FOUND):
        return None
    for frame in reversed(frames_of(error)):
        kind, registry = _looked_up(frame.f_locals)
        if isinstance(kind, str) and isinstance(registry, Registry):
            hint = did_you_mean(kind, _names(registry))
            return f"No {registry.name} is named '{kind}'{at(config, _places_of_type(config, kind))}.{hint}"
    return None


def _looked_up(names: dict[str, Any]) -> tuple[Any, Any]:
    """What was looked up where: by build_from_cfg, by mmcv's builders of layers, or for an optimiser."""
    kind = names.get("obj_type", names.get("layer_type"))
    if kind is None and "optimizer_cls" in names:
        kind = getattr(names.get("self"), "optimizer_cfg", {}).get("type")
    return kind, names.get("registry")


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
    """A TypeError of the call itself, not of what the constructor does."""
    if not isinstance(error, TypeError) or frame is None or frames_of(error)[-1] is not frame:
        return None
    made, given = frame.f_locals.get("obj_cls"), frame.f_locals.get("args") or {}
    if not callable(made):
        return None
    name = getattr(made, "__name__", str(made))
    known = set(_arguments(made))
    wrong = [key for key in given if key not in known and key in str(error)]
    hint = did_you_mean(wrong[0], known) if wrong else ""
    problem = re.sub(r"^.*?__init__\(\) ", "", str(error))
    return f"{name} cannot be built{at(config, _places_of_type(config, name))}: {problem}.{hint}"


def _arguments(made: Callable[..., Any]) -> Iterator[str]:
    """Names of arguments, those of base classes too, since `**kwargs` passes them on."""
    for owner in getattr(made, "__mro__", (made,)):
        try:
            yield from inspect.signature(owner).parameters
        except (TypeError, ValueError):
            continue


def _refused_by_constructor(
    error: Exception, text: str, frame: FrameType | None, config: Config
) -> str | None:
    """What a constructor asserts or raises itself is about what the config gave it."""
    is_said = isinstance(error, KeyError) and " " in text  # and not merely the key that a dict lacks
    if frame is None or not (isinstance(error, _REFUSALS) or is_said):
        return None
    name = getattr(frame.f_locals.get("obj_cls"), "__name__", "?")
    problem = text or f"it wants that: {traceback.extract_tb(error.__traceback__)[-1].line}"
    return f"{name} cannot be built{at(config, _places_of_type(config, name))}: {problem}"


def _refused_by_runner(error: Exception, text: str) -> str | None:
    """What mmengine's runner itself cannot take while it sets a run up, such as a number for a list."""
    code = frames_of(error)[-1].f_code
    is_setting_up = code.co_name.startswith(
        ("build_", "register_", "_check", "__init__", "scale_lr", "setup_")
    )
    if not (is_setting_up and code.co_filename == inspect.getfile(Runner)):
        return None
    return f"The config does not fit mmengine's runner, in {code.co_name}: {text or type(error).__name__}"


def _places_of_type(config: Config, name: str) -> list[str]:
    short = name.rpartition(".")[2]
    return [
        place.removesuffix(".type")
        for place, value in walk(dict(config.items()))
        if place.endswith("type") and isinstance(value, str) and value.rpartition(".")[2] == short
    ]
