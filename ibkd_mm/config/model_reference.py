"""A model as other configs refer to it: by the path of its config, or by its settings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ibkd_mm.config.read import read_config


class ModelReference(NamedTuple):
    """The settings of a model, its checkpoint, and the registry scope of the names in the settings."""

    settings: Mapping[str, Any]
    checkpoint: str | None
    scope: str | None


def resolve_model(model: str | Mapping[str, Any], checkpoint: str | None) -> ModelReference:
    """Find a model's settings and checkpoint.

    Args:
        model: a config's path, one inside a package (`mmdet::...`), or the settings themselves.
        checkpoint: path, URL or `ibkd_mm::NAME`; else what the config's `load_from` names.
    """
    if not isinstance(model, str):
        return ModelReference(model, checkpoint, None)
    config = read_config(model)
    return ModelReference(config.model, checkpoint or config.get("load_from"), config.get("default_scope"))
