"""SIGTERM ends the step, writes a checkpoint, exits with a code of its own, and the run resumes from it."""

import os
import runpy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook

from ibkd_mm.engine import Preempted, PreemptionHook, TrustedRunner, load_weights
from ibkd_mm.engine.preemption import REQUEUE
from ibkd_mm.engine.saving import PREEMPTED, find_resumable

Toy = Callable[..., TrustedRunner]
GUARD = {"preemption": {"type": "ibkd_mm.PreemptionHook"}}


class Signal(Hook):
    """Send a signal to this process before a step, or in a validation."""

    def __init__(self, at: int, name: str = "SIGTERM", validation: bool = False) -> None:
        self.at, self.number, self.validation = at, signal.Signals[name], validation

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if runner.iter == self.at and not self.validation:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if runner.iter == self.at and self.validation:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="session")
def differing() -> Callable[[Any, Any], list[str]]:
    return runpy.run_path(str(Path(__file__).with_name("test_resume.py")))["differing"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("epochs", [False, True])
def test_a_signal_ends_the_step_saves_and_exits_with_its_code(
    toy: Toy, tmp_path: Path, differing: Callable[[Any, Any], list[str]], name: str, epochs: bool
) -> None:
    steps, last = (3, "epoch_3.pth") if epochs else (6, "iter_6.pth")
    changes = {"epochs": epochs, "guards": GUARD, "validate": True}
    before = signal.getsignal(signal.Signals[name])
    with pytest.raises(Preempted) as stopped:
        toy(tmp_path / "cut", steps, **changes, hooks=[Signal(at=3, name=name)]).train()
    assert stopped.value.code == REQUEUE == 75
    assert signal.getsignal(signal.Signals[name]) is before
    saved = tmp_path / "cut" / PREEMPTED
    assert find_resumable(tmp_path / "cut") == saved
    assert load_weights(saved)["meta"]["iter"] == 4
    toy(tmp_path / "cut", steps, **changes, resume=True, load_from=str(saved)).train()
    toy(tmp_path / "whole", steps, **changes).train()
    ends = [load_weights(tmp_path / folder / last) for folder in ("cut", "whole")]
    assert differing(*ends) == []
    assert not saved.exists(), "the next regular checkpoint makes it needless"


def test_a_stop_waits_for_the_end_of_an_accumulation(toy: Toy, tmp_path: Path) -> None:
    optim = {"accumulative_counts": 3}
    with pytest.raises(Preempted):
        toy(tmp_path, 6, guards=GUARD, optim=optim, hooks=[Signal(at=0)]).train()
    assert load_weights(tmp_path / PREEMPTED)["meta"]["iter"] == 3


def test_a_validation_that_was_cut_short_is_done_on_resuming(toy: Toy, tmp_path: Path) -> None:
    changes = {"guards": GUARD, "validate": True, "loop": {"val_interval": 2}}
    with pytest.raises(Preempted):
        toy(tmp_path, 4, **changes, hooks=[Signal(at=2, validation=True)]).train()
    saved = load_weights(tmp_path / PREEMPTED)
    assert saved["validation_owed"]
    assert saved["meta"]["iter"] == 2
    runner = toy(tmp_path, 4, **changes, resume=True, load_from=str(tmp_path / PREEMPTED))
    runner.train()
    assert len(runner.message_hub.get_scalar("val/toy/mean").data[0]) == 2
    assert "validation_owed" not in load_weights(tmp_path / "iter_4.pth")


def test_a_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    hook = PreemptionHook()
    hook._note(signal.SIGTERM, None)
    assert left == []
    hook._note(signal.SIGTERM, None)
    assert left == [128 + signal.SIGTERM]
