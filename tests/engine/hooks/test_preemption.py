"""SIGTERM ends the step, writes a checkpoint, exits with a code of its own, and the run resumes from it."""

import os
import runpy
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mmengine.hooks import Hook

from ibkd_mm.engine import Preempted, PreemptionHook, ResumableRunner, load_weights
from ibkd_mm.engine.checkpoint.latest import POINTER, PREEMPTED, find_resumable
from ibkd_mm.engine.hooks import preemption
from ibkd_mm.engine.hooks.preemption import REQUEUE

Toy = Callable[..., ResumableRunner]
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
    return runpy.run_path(str(Path(__file__).parents[1] / "test_resume.py"))["differing"]


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
    assert (tmp_path / "cut" / POINTER).read_text() == str(saved)
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
    assert saved["validation_pending"]
    assert saved["meta"]["iter"] == 2
    runner = toy(tmp_path, 4, **changes, resume=True, load_from=str(tmp_path / PREEMPTED))
    runner.train()
    assert len(runner.message_hub.get_scalar("val/toy/mean").data[0]) == 2
    assert "validation_pending" not in load_weights(tmp_path / "iter_4.pth")


def test_a_validation_that_was_due_is_done_on_resuming(toy: Toy, tmp_path: Path) -> None:
    loop = {"val_interval": 2}
    for name, interval, at in (("middle", 2, 1), ("end", 100, 3), ("not yet", 2, 2)):
        changes = {"guards": GUARD, "validate": True, "loop": {**loop, "val_interval": interval}}
        folder = tmp_path / name
        with pytest.raises(Preempted):
            toy(folder, 4, **changes, hooks=[Signal(at=at)]).train()
        saved = load_weights(folder / PREEMPTED)
        assert saved["meta"]["iter"] == at + 1
        assert saved.get("validation_pending", False) == (name != "not yet")
        runner = toy(folder, 4, **changes, resume=True, load_from=str(folder / PREEMPTED))
        runner.train()
        assert len(runner.message_hub.get_scalar("val/toy/mean").data[0]) == 4 // min(interval, 4)


@pytest.mark.parametrize(
    ("validation", "iteration", "due"),
    [
        ({"val_interval": 3}, 3, True),
        ({"val_interval": 3}, 4, False),
        ({"val_interval": 3, "val_begin": 4}, 3, False),
        ({"val_interval": 3}, 10, True),  # the last one
        ({"val_interval": 3, "dynamic_intervals": [(6, 2)]}, 3, True),
        ({"val_interval": 3, "dynamic_intervals": [(6, 2)]}, 8, True),
    ],
)
def test_when_a_validation_is_due(
    toy: Toy, tmp_path: Path, validation: dict[str, Any], iteration: int, due: bool
) -> None:
    loop: Any = toy(tmp_path, 10, validate=True, loop=validation).train_loop
    assert loop.validates_after(iteration) == due
    assert not toy(tmp_path, 10, loop=validation).train_loop.validates_after(iteration)  # type: ignore[attr-defined]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(preemption.time, "monotonic", lambda: now[0])
    return now


def test_a_second_signal_stops_at_once(left: list[int], clock: list[float]) -> None:
    hook = PreemptionHook()
    hook._on_signal(signal.SIGTERM, None)
    assert left == []
    clock[0] += 1.5
    hook._on_signal(signal.SIGTERM, None)
    assert left == [128 + signal.SIGTERM]


def test_a_signal_that_comes_twice_is_one(left: list[int], clock: list[float]) -> None:
    hook = PreemptionHook()
    for number in (signal.SIGINT, signal.SIGTERM):
        hook._on_signal(number, None)
        clock[0] += 0.1
    assert left == []


def test_no_process_leaves_before_the_checkpoint_is_there(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path | None] = []
    monkeypatch.setattr(preemption, "barrier", lambda: seen.append(find_resumable(tmp_path)))
    with pytest.raises(Preempted):
        toy(tmp_path, 3, guards=GUARD, hooks=[Signal(at=0)]).train()
    assert seen == [tmp_path / PREEMPTED]


def test_a_process_stops_with_another_that_received_a_signal(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = iter([0, 0, 1])
    monkeypatch.setattr(preemption, "get_world_size", lambda: 2)
    monkeypatch.setattr(preemption, "all_reduce", lambda flag, how: flag.fill_(next(step)))
    with pytest.raises(Preempted):
        toy(tmp_path, 6, guards=GUARD).train()
    assert load_weights(tmp_path / PREEMPTED)["meta"]["iter"] == 3


def test_a_training_in_a_thread_warns_that_no_signal_saves_it(toy: Toy, tmp_path: Path) -> None:
    runner = toy(tmp_path, 2, guards=GUARD)
    said: list[str] = []
    runner.logger.warning = said.append  # type: ignore[method-assign]
    thread = Thread(target=runner.train)
    thread.start()
    thread.join(60)
    assert runner.iter == 2
    assert any("a thread other than the main one" in line for line in said)


def _ignored(process: int) -> set[int]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    mask = int(next(line.split()[1] for line in lines if line.startswith("SigIgn")), 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1}


@pytest.mark.parametrize("of", ["train", "val"])
def test_workers_leave_it_to_the_training_to_answer(toy: Toy, tmp_path: Path, of: str) -> None:
    class ToWorkers(Hook):
        def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            loader = runner.val_dataloader if of == "val" else runner.train_loop.dataloader
            for worker in loader._iterator._workers if runner.iter else ():
                for name in ("TERM", "INT", "USR1"):  # by a third process, as a scheduler does
                    subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
                assert {signal.SIGINT, signal.SIGUSR1} <= _ignored(worker.pid)

    changes = {"workers": 2, "validate": True, "val_workers": 2, "loop": {"val_interval": 1}}
    runner = toy(tmp_path, 3, **changes, guards=GUARD, hooks=[ToWorkers()])
    runner.train()
    assert runner.iter == 3
