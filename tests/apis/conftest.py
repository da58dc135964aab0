import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ibkd_mm.apis import TrainResult, train


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _configs_are_not_beautified() -> Iterator[None]:
    """Five times a run mmengine lays the config out with yapf, which takes longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, False))
        yield


@pytest.fixture(scope="session")
def write_tiny() -> Callable[..., Path]:
    return runpy.run_path(str(Path(__file__).with_name("tiny_detector.py")))["write_tiny"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def trained(tiny: Path) -> TrainResult:
    """The tiny detector after two steps; not to be changed."""
    return train(tiny, work_dir=str(tiny.parent / "trained"))
