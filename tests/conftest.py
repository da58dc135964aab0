"""What every test stands on: no display, its share of cores, no random numbers nor scope of those before."""

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    threads = max(torch.get_num_threads() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the processes that tests start
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _no_default_scope():
    """A runner of another file leaves the scope its config named; mmengine has no call to forget it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultScope, "_instance_dict", type(DefaultScope._instance_dict)())
        yield


@pytest.fixture(autouse=True, scope="session")
def _configs_are_not_beautified() -> Iterator[None]:
    """Five times a run mmengine lays the config out with yapf, which takes longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, False))
        yield
