"""Errors of building what a config names: unknown types, wrong arguments, refusals of constructors."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from ibkd_mm.config.overrides import effective_settings
from ibkd_mm.config.walk import walk
from ibkd_mm.errors import did_you_mean
from ibkd_mm.stack.frames import Building, being_built, last_line, looked_up, setting_up

_PLACES_SHOWN = 3
_NOT_FOUND = (
    "is not in the",
    "Failed to get",
    "Cannot find None in registry",
    "None is not a callable object",
)
_REFUSALS = (AssertionError, ValueError, NotImplementedError)
_WRONG_CALL = re.compile(
    r"unexpected keyword argument '(?P<key>\w+)'|required .*argument|multiple values for"
)


def explain_build(error: Exception, text: str, config: Config) -> str | None:
    """Say what the config asks for that cannot be built, or None where the error is of another kind."""
    building, step = being_built(error), setting_up(error)
    if any(words in text for words in _NOT_FOUND) and (found := looked_up(error)):
        return _unknown_type(*found, config)
    if building and isinstance(error, TypeError) and (wrong := _WRONG_CALL.search(text)):
        return _wrong_arguments(building, text, wrong["key"], config)
    is_said = isinstance(error, KeyError) and " " in text  # and not merely the key that a dict lacks
    if building and (isinstance(error, _REFUSALS) or is_said):
        where = at(config, _places_of_type(config, building.name))
        return f"{building.name} cannot be built{where}: {text or f'it wants that: {last_line(error)}'}"
    if step:
        return f"The config does not fit mmengine's runner, in {step}: {text or type(error).__name__}"
    return None


def at(config: Config, places: list[str]) -> str:
    """Name the settings that a message is about."""
    shown = ", ".join(places[:_PLACES_SHOWN])
    more = f" and {len(places) - _PLACES_SHOWN} more places" if len(places) > _PLACES_SHOWN else ""
    if places:
        return f" (config key {shown}{more})"
    return f" (config {config.filename})" if config.filename else ""


def _unknown_type(kind: str, registry: Registry, config: Config) -> str:
    hint = did_you_mean(kind, _names(registry))
    return f"No {registry.name} is named '{kind}'{at(config, _places_of_type(config, kind))}.{hint}"


def _names(registry: Registry) -> set[str]:
    """All names that may be written where this registry is asked, with the scope where it must be."""
    names = set(registry.module_dict)
    above = registry.parent
    while above is not None:
        names |= set(above.module_dict)
        names |= {f"{scope}.{name}" for scope, child in above.children.items() for name in child.module_dict}
        above = above.parent
    return names


def _wrong_arguments(building: Building, text: str, key: str | None, config: Config) -> str:
    """Say what the call, or one that it makes in turn, does not take or lacks."""
    places = _places_of_type(config, building.name)
    if key:
        inside = tuple(f"{place}." for place in places)
        named = [path for path, _ in walk(effective_settings(config)) if path.endswith(f".{key}")]
        places = [path for path in named if path.startswith(inside)] or places
    hint = did_you_mean(key, _arguments(building.made)) if key in building.settings else ""
    return f"{building.name} cannot be built{at(config, places)}: {text}.{hint}"


def _arguments(made: Callable[..., Any]) -> Iterator[str]:
    """Names of arguments, those of base classes too, since `**kwargs` passes them on."""
    for owner in getattr(made, "__mro__", (made,)):
        try:
            yield from inspect.signature(owner).parameters
        except (TypeError, ValueError):
            continue


def _places_of_type(config: Config, name: str) -> list[str]:
    short = name.rpartition(".")[2]
    return [
        place.removesuffix(".type")
        for place, value in walk(effective_settings(config))
        if place.endswith("type") and isinstance(value, str) and value.rpartition(".")[2] == short
    ]
