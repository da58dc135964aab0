"""What every test stands on: no display, and neither random numbers nor scope of the tests before it."""

import os
import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_default_scope(monkeypatch):
    """A runner of another test leaves the scope that its config named; mmengine has no call to forget it."""
    monkeypatch.setattr(DefaultScope, "_instance_dict", type(DefaultScope._instance_dict)())
