"""`--cfg-options`: settings overridden from outside, refused where they would silently do nothing.

mmengine adds whatever key it is given, so a typing error changes nothing and nobody notices. Here:

* a path whose parent does not exist is refused, as is an unknown key at the top that no runner reads;
* a new key in a dict with a `type` is passed on: the constructor of that type refuses what it does not know;
* a new key in a dict without `type` is passed on unless it is nearly the name of one that is there;
* a key at the top that no runner reads (`max_epochs`, `data_root`, `train_pipeline`) is a variable that the
  config file used up when it was read; it is refused with the places where its value stands.
"""

import inspect
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ibkd_mm.config.walk import walk
from ibkd_mm.errors import UserError, did_you_mean

# What mmengine's runner takes from the config besides its constructor's arguments.
_READ_LATER = (
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "memory_format",
    "model_wrapper_cfg",
    "runner_type",
    "sync_bn",
    "teacher_cache",
    "tta_model",
    "tta_pipeline",
)
_READ = {*inspect.signature(Runner.__init__).parameters, *_READ_LATER} - {"self", "cfg"}
_NEARLY = 0.8
_PLACES_SHOWN = 4


def apply_overrides(config: Config, options: Mapping[str, Any] | Sequence[str]) -> None:
    """Change settings of the config in place, after checking that each will take effect."""
    parsed = dict(options) if isinstance(options, Mapping) else _parse(options)
    for key in parsed:
        _check(config, key)
    try:
        config.merge_from_dict(parsed)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"--cfg-options cannot be merged into the config: {error}") from error


def _parse(options: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE as mmengine's own command line does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--options", nargs="+", action=DictAction, default={})
    try:
        return parser.parse_args(["--options", *options]).options if options else {}
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"Expected KEY=VALUE in --cfg-options, found {' '.join(options)} ({error})."
        ) from error


def _check(config: Config, key: str) -> None:
    first, *rest = key.split(".")
    if first not in config:
        if first not in _READ or any(name.isdigit() for name in rest):
            raise UserError(
                f"The config has no key '{first}'.{did_you_mean(first, {*config, *_READ} - {first})}"
            )
        return  # a setting of the runner's that this config left at its default
    if first not in _READ:
        raise UserError(
            f"'{first}' is a variable of the config file, used up when the file was read: setting '{key}' "
            f"now would change nothing.{_where_it_went(config, key)}"
        )
    node: Any = config[first]
    done = first
    for name in rest:
        node = _step(node, done, name, is_last=f"{done}.{name}" == key)
        done = f"{done}.{name}"


def _step(node: Any, path: str, name: str, is_last: bool) -> Any:
    """Go one name down from `path`; None where a new key begins."""
    if isinstance(node, list | tuple):
        if not name.isdigit() or int(name) >= len(node):
            raise UserError(
                f"'{path}' is a list of {len(node)}: expected a number below that, found '{name}'."
            )
        return node[int(name)]
    if not isinstance(node, Mapping):
        raise UserError(f"'{path}' is {node!r}, so there is no '{path}.{name}' to set.")
    if name in node:
        return node[name]
    hint = did_you_mean(name, node, _NEARLY if is_last else 0.6)
    if not is_last or (hint and "type" not in node):
        raise UserError(f"'{path}' has no key '{name}'.{hint} It has: {', '.join(map(str, node)) or 'none'}.")
    return None


def _where_it_went(config: Config, key: str) -> str:
    """Places of the same value; for what lies in a dict those of its name, since `**` keeps names."""
    read = dict(walk(effective_settings(config)))
    value = dict(walk(dict(config.items()))).get(key)
    places = [path for path, found in read.items() if type(found) is type(value) and found == value]
    if "." in key or value is None or isinstance(value, bool):
        named = [path for path in read if path.endswith(f".{key.rpartition('.')[2]}")]
        places = [path for path in named if path in places] or named
    return f" Override instead: {', '.join(places[:_PLACES_SHOWN])}." if places else ""


def effective_settings(config: Config) -> dict[str, Any]:
    """What of a config has effect; the rest are variables that its file used."""
    return {name: part for name, part in config.items() if name in _READ}
