"""Top-level config keys that have an effect. Any other key is a variable that the config file itself used."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ibkd_mm.registry import RUNNERS

# Keys that mmengine reads besides the arguments of its runner: when it reads the file, and when the runner
# builds, wraps and compiles the model.
_UPSTREAM = {
    "activation_checkpointing",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "sync_bn",
}
_known = {*inspect.signature(Runner.__init__).parameters, *_UPSTREAM} - {"self", "cfg"}


def register_config_key(*names: str) -> None:
    """Register top-level config keys, so that options may set them; called by the module that reads them."""
    _known.update(names)


def config_keys() -> frozenset[str]:
    """Return all top-level keys that something reads, those of this package's modules included."""
    RUNNERS.import_from_location()
    return frozenset(_known)


def effective_settings(config: Config) -> dict[str, Any]:
    """Return the part of a config that has an effect, without the variables that its file used."""
    known = config_keys()
    return {name: value for name, value in config.items() if name in known}
