"""Fixtures of the config tests: load and build configs without downloads."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import CONFIGS
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from ibkd_mm.config.walk import dicts
from ibkd_mm.distill import teacher


def remove_pretrained(node: Any) -> None:
    """Set every `init_cfg` of type Pretrained in a config to None, in place."""
    for settings in dicts(node):
        init = settings.get("init_cfg")
        if isinstance(init, dict) and init.get("type") == "Pretrained":
            settings["init_cfg"] = None


@pytest.fixture(autouse=True, scope="module")
def teachers_weights() -> Iterator[Callable[[torch.nn.Module, str], None]]:
    """Load only the shipped weights into teachers; yield the function that loads any weights."""
    load = teacher._load

    def load_shipped(model: torch.nn.Module, checkpoint: str) -> None:
        if checkpoint.startswith("ibkd_mm::"):
            load(model, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "_load", load_shipped)
        yield load


@pytest.fixture(scope="session")
def load() -> Callable[..., Config]:
    """Load a config by its path under configs/, by default without downloads, and enter its scope."""

    def load(name: str, with_weights: bool = False) -> Config:
        config = Config.fromfile(CONFIGS / name)
        if not with_weights:
            remove_pretrained(config.model)
            config.load_from = None
        init_default_scope(config.get("default_scope", "mmdet"))
        return config

    return load


@pytest.fixture(scope="session")
def build() -> Callable[[Config], torch.nn.Module]:
    """Build a config's model with zero weights: no test needs their values, and drawing them is slow."""

    def build(config: Config) -> torch.nn.Module:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "normal_", "uniform_"):
                patch.setattr(torch.nn.init, name, lambda weight, *_, **__: weight.data.zero_())
            return MODELS.build(config.model)

    return build
