"""The tiny detector as fixtures, in an empty working folder and on one thread."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from helpers.tiny_detector import write_tiny as write_tiny_detector
from ibkd_mm.apis import TrainResult, train
from ibkd_mm.stack.ops.execution import one_thread


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def on_one_thread() -> Iterator[None]:
    with one_thread(torch.empty(0)):
        yield


@pytest.fixture(scope="session")
def write_tiny() -> Callable[..., Path]:
    return write_tiny_detector


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def trained(tiny: Path) -> TrainResult:
    """The tiny detector after two steps; not to be changed."""
    with one_thread(torch.empty(0)):
        return train(tiny, work_dir=str(tiny.parent / "trained"))
