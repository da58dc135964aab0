"""What the tests of configs share: finding, loading and stripping them of what would be downloaded."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import ibkd_mm  # noqa: F401
from ibkd_mm.distill import teacher

CONFIG_ROOT = Path(__file__).parents[2] / "configs"


def without_pretrained(node: Any) -> Any:
    """Set every `init_cfg` of type Pretrained in a config to None, in place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "init_cfg" and isinstance(value, dict) and value.get("type") == "Pretrained":
                node[key] = None
            else:
                without_pretrained(value)
    elif isinstance(node, list | tuple):
        for value in node:
            without_pretrained(value)
    return node


@pytest.fixture(autouse=True, scope="module")
def teachers_weights() -> Iterator[Callable[[torch.nn.Module, str], None]]:
    """Give teachers the weights that ship with the package, and no others; the value loads any."""
    load = teacher._load

    def load_shipped(model: torch.nn.Module, checkpoint: str) -> None:
        if checkpoint.startswith("ibkd_mm::"):
            load(model, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "_load", load_shipped)
        yield load


@pytest.fixture(scope="session")
def load() -> Callable[..., Config]:
    """Load a config by its path under configs/, by default without weights to fetch, and enter its scope."""

    def load(name: str, with_weights: bool = False) -> Config:
        config = Config.fromfile(CONFIG_ROOT / name)
        if not with_weights:
            without_pretrained(config.model)
            config.load_from = None
        init_default_scope(config.get("default_scope", "mmdet"))
        return config

    return load


@pytest.fixture(scope="session")
def build() -> Callable[[Config], torch.nn.Module]:
    """Build a config's model. Nothing here looks at values, and drawing weights would take longest."""

    def build(config: Config) -> torch.nn.Module:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "normal_", "uniform_"):
                patch.setattr(torch.nn.init, name, lambda weight, *_, **__: weight.data.zero_())
            return MODELS.build(config.model)

    return build
