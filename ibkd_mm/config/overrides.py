"""`--cfg-options`: override settings of a config, and refuse options that would have no effect.

mmengine adds any key that it is given, so a misspelt key is silently ignored. Here these are refused:

* a path whose parent does not exist;
* a new top-level key that nothing reads;
* a top-level key that only the config file used (`data_root`): the error names the settings with its value;
* a new key that is nearly the name of an existing one, in a dict without `type`. In a dict with `type`, the
  constructor of that type checks its arguments.
"""

import inspect
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ibkd_mm.config.walk import walk
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import RUNNERS

_NEAR, _VERY_NEAR = 0.6, 0.8
_PLACES_SHOWN = 4
# Keys that are read besides the arguments of mmengine's runner: by mmengine when it reads the file, and when
# the runner builds, wraps and compiles the model; by `--tta`.
_MORE_KEYS = {
    "activation_checkpointing",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "sync_bn",
    "tta_model",
    "tta_pipeline",
}
_known = {*inspect.signature(Runner.__init__).parameters, *_MORE_KEYS} - {"self", "cfg"}


def register_config_key(*names: str) -> None:
    """Register top-level config keys, so that options may set them; called by the module that reads them."""
    _known.update(names)


def config_keys() -> frozenset[str]:
    """Return all top-level keys that something reads; any other is a variable of the config file."""
    RUNNERS.import_from_location()
    return frozenset(_known)


def effective_settings(config: Config) -> dict[str, Any]:
    """Return the part of a config that has an effect, without the variables that its file used."""
    known = config_keys()
    return {name: value for name, value in config.items() if name in known}


def apply_overrides(config: Config, options: Mapping[str, Any] | Sequence[str]) -> None:
    """Change settings of a config in place, after checking that each option has an effect."""
    parsed = dict(options) if isinstance(options, Mapping) else _parse(options)
    for key in parsed:
        _check_option(config, key)
    try:
        config.merge_from_dict(parsed)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"--cfg-options cannot be merged into the config: {error}") from error


def _parse(options: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE as mmengine's own command line does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--options", nargs="+", action=DictAction, default={})
    try:
        return parser.parse_args(["--options", *options]).options if options else {}
    except (AssertionError, ValueError) as error:
        found = f"{' '.join(options)} ({error})"
        raise UserError(f"Expected KEY=VALUE in --cfg-options, found {found}.") from error


def _check_option(config: Config, key: str) -> None:
    first, *rest = key.split(".")
    known = config_keys()
    if first not in config:
        if first not in known or any(name.isdigit() for name in rest):
            hint = did_you_mean(first, {*config, *known} - {first})
            raise UserError(f"The config has no key '{first}'.{hint}")
        return  # a setting that something reads and that this config left at its default
    if first not in known:
        raise UserError(
            f"'{first}' is a variable that only the config file uses: setting '{key}' has no effect."
            f"{_suggest_settings(config, key)}"
        )
    node, path = config[first], first
    for name in rest:
        node = _child(node, path, name, is_last=f"{path}.{name}" == key)
        path = f"{path}.{name}"


def _child(node: Any, path: str, name: str, is_last: bool) -> Any:
    """Return the value of `name` in the node at `path`; None for a new key."""
    if isinstance(node, list | tuple):
        if not name.isdigit() or int(name) >= len(node):
            raise UserError(
                f"'{path}' is a list of {len(node)}: expected a number below that, found '{name}'."
            )
        return node[int(name)]
    if not isinstance(node, Mapping):
        raise UserError(f"'{path}' is {node!r}, so '{path}.{name}' cannot be set.")
    if name in node:
        return node[name]
    hint = did_you_mean(name, node, _VERY_NEAR if is_last else _NEAR)
    if not is_last or (hint and "type" not in node):
        raise UserError(f"'{path}' has no key '{name}'.{hint} It has: {', '.join(map(str, node)) or 'none'}.")
    return None


def _suggest_settings(config: Config, key: str) -> str:
    """Name the settings of the same value; for a key in a dict, those of its name, which `**` keeps."""
    settings = dict(walk(effective_settings(config)))
    value = dict(walk(dict(config.items()))).get(key)
    places = [path for path, found in settings.items() if type(found) is type(value) and found == value]
    if "." in key or value is None or isinstance(value, bool):
        named = [path for path in settings if path.endswith(f".{key.rpartition('.')[2]}")]
        places = [path for path in named if path in places] or named
    return f" Override instead: {', '.join(places[:_PLACES_SHOWN])}." if places else ""
