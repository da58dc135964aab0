from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ibkd_mm.engine import ResumableRunner, runner
from ibkd_mm.errors import UserError

Toy = Callable[..., ResumableRunner]


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runner, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("workers", "spare"), [(0, 8), (3, 5), (9, 1)])
def test_threads_are_the_cores_that_workers_leave(toy: Toy, tmp_path: Path, workers: int, spare: int) -> None:
    toy(tmp_path, 1, workers=workers, env={"threads": "spare"})
    assert torch.get_num_threads() == spare


@pytest.mark.usefixtures("eight_cores")
def test_threads_stay_where_the_user_or_no_setting_says_so(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy(tmp_path / "silent", 1)
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy(tmp_path / "told", 1, env={"threads": "spare"})
    assert torch.get_num_threads() == 1


def test_another_word_for_threads_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"env_cfg.threads is 'spare' or None, found 'all'"):
        toy(tmp_path, 1, env={"threads": "all"})
