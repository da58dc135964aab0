"""What every test stands on: no display, and neither random numbers nor scope of the tests before it."""

import functools
import gc
import hashlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from mmengine.config import utils
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import nn

import ibkd_mm.register_all  # noqa: F401  (before any mmdet: what it imports finds mmcv's operators then)

os.environ.setdefault("MPLBACKEND", "Agg")

# The same examples every time; `pytest --hypothesis-profile default` looks for others.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _no_scope_and_no_logger():
    """A runner of another file leaves the scope its config named, and a logger whose streams are closed.

    mmengine has no call to forget them.
    """
    with pytest.MonkeyPatch.context() as patch:
        for kind in (DefaultScope, MMLogger):
            patch.setattr(kind, "_instance_dict", type(kind._instance_dict)())
        yield


@pytest.fixture(autouse=True, scope="module")
def _what_was_there_before_is_not_searched_for_garbage() -> None:
    """Every data set that is built collects garbage: 0.3 s where half a million objects are imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _configs_are_not_beautified() -> Iterator[None]:
    """Five times a run mmengine lays the config out with yapf, which takes longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, False))
        yield


@pytest.fixture(autouse=True, scope="session")
def _descriptions_of_upstreams_configs_are_read_once() -> Iterator[None]:
    """To find one `mmdet::` config mmengine parses a hundred files, which takes longer than to read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "load", functools.cache(utils.load))
        yield


@pytest.fixture(scope="session")
def traced_once() -> Iterator[None]:
    """Keep what is traced of a student for the next that is the same, since tracing takes seconds."""
    from ibkd_mm.deploy import export as module

    trace, traced = module.trace, {}

    def once(graph: nn.Module, **how: Any) -> Any:
        weights = hashlib.sha256(repr((type(graph), getattr(graph, "max_instances", None), how)).encode())
        for name, value in graph.state_dict().items():
            weights.update(name.encode() + value.numpy().tobytes())
        key = weights.digest()
        if key not in traced:
            traced[key] = trace(graph, **how)
        copied = type(traced[key])()
        copied.CopyFrom(traced[key])
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "trace", once)
        yield
