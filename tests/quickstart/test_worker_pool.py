"""Trainings as processes, most of them small programs in place of `ibkd train`."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ibkd_mm.apis import TrainResult
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.save import set_last_checkpoint
from ibkd_mm.errors import UserError
from ibkd_mm.quickstart import worker_pool
from ibkd_mm.quickstart.worker_pool import COMMAND, Training, run_trainings

HEAD = """
import json, os, signal, sys, time
config, _, folder, resume = sys.argv[1:]
assert resume == '--resume'
def log(run, **record):
    os.makedirs(f'{folder}/{run}/vis_data', exist_ok=True)
    with open(f'{folder}/{run}/vis_data/scalars.json', 'a') as file:
        file.write(json.dumps(record) + chr(10))
def save(*_):
    open(folder + '/saved', 'w').close()
    sys.exit(75)
"""
UNTIL_STOPPED = """
signal.signal(signal.SIGTERM, save)
log('2', step=1, lr=0.1, loss=2.0)
while True: time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def _fast_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_POLL_SECONDS", 0.02)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", HEAD + text]


def trainings(*names: str) -> list[Training]:
    return [Training(name, Path(f"{name}.py"), Path(name), steps=4, threads=3) for name in names]


def run(text: str, *names: str) -> tuple[list[Any], list[str]]:
    events: list[Any] = []
    warnings: list[str] = []
    run_trainings(
        trainings(*names),
        on_step=lambda training, step: events.append((training.name, step)),
        on_end=lambda training: events.append((training.name, "end")),
        warn=warnings.append,
        command=program(text),
    )
    return events, warnings


def write_log(folder: str, *records: dict[str, Any]) -> None:
    file = Path(folder, "1", "vis_data", "scalars.json")
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(map(json.dumps, records)))


def wait_for(file: str) -> None:
    deadline = time.monotonic() + 20
    while not Path(file).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_steps_and_warnings_are_reported_and_each_training_has_its_threads() -> None:
    write_log("a", {"step": 3, "lr": 0.1, "loss": 2.0})  # of an earlier start
    text = """
print('01/01 - mmengine - WARNING - of another package')
print('01/01 - mmengine - INFO - Checkpoints will be saved to here', flush=True)
log('2', step=1, lr=0.1, loss=2.0)
print('01/01 - mmengine - WARNING - w ' + os.environ['OMP_NUM_THREADS'], flush=True)
time.sleep(0.3)
log('2', step=2, lr=0.1, loss=2.0)
print('x', file=sys.stderr)
"""
    events, warnings = run(text, "a", "b")
    for name in ("a", "b"):
        assert [step for training, step in events if training == name] == [1, 2, "end"]
        assert Path(name, "console.txt").read_text().endswith("w 3\nx\n")
    assert sorted(warnings) == ["a: w 3", "b: w 3"]


def test_trainings_run_side_by_side() -> None:
    """Each waits for what the other has written."""
    meet = """
other = {'a': 'b', 'b': 'a'}[folder]
open(folder + '/here', 'w').close()
until = time.time() + 20
while not os.path.exists(other + '/here'):
    assert time.time() < until
    time.sleep(0.01)
"""
    assert sorted(run(meet, "a", "b")[0]) == [("a", "end"), ("b", "end")]


def test_a_failure_shows_the_last_lines_and_the_other_training_saves_a_checkpoint() -> None:
    fail = (
        "if folder == 'a':\n    while not os.path.exists('b/2'): time.sleep(0.01)\n    sys.exit('it broke')\n"
    )
    with pytest.raises(UserError, match="ended with exit code 1") as failed:
        run(fail + UNTIL_STOPPED, "a", "b")
    assert str(failed.value).endswith("a/console.txt:\nit broke")
    assert Path("b/saved").exists()


def test_the_error_of_ibkd_train_is_shown_alone() -> None:
    Path("a").mkdir()
    Path("a/console.txt").write_text("ibkd train: error: an old one\n")
    with pytest.raises(UserError) as failed:
        run("print('much')\nprint('ibkd train: error: No space\\n left', file=sys.stderr); sys.exit(2)", "a")
    assert str(failed.value) == "The training in a stopped: No space\n left"


def test_ctrl_c_stops_all_trainings() -> None:
    def interrupt(*_: Any) -> None:
        wait_for("a/2")
        wait_for("b/2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trainings(trainings("a", "b"), interrupt, print, print, program(UNTIL_STOPPED))
    assert Path("a/saved").exists()
    assert Path("b/saved").exists()


def test_a_training_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_STOP_SECONDS", 0.2)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    deaf = (
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{UNTIL_STOPPED.replace('save)', 'signal.SIG_IGN)')}"
    )
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_trainings(trainings("a"), interrupt, print, print, program(deaf))
    assert time.monotonic() - began < 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_if_the_parent_is_killed_the_trainings_save_and_the_next_start_waits_for_them() -> None:
    slow = UNTIL_STOPPED.replace("signal.SIGTERM, save", "signal.SIGTERM, lambda *_: (time.sleep(1), save())")
    parent = os.fork()  # a new process would import for seconds
    if not parent:
        try:
            run_trainings(trainings("a"), lambda *_: None, print, print, program(slow))
        finally:
            os._exit(1)
    wait_for("a/2/vis_data/scalars.json")
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert not Path("a/saved").exists()
    run("assert os.path.exists(folder + '/saved')", "a")


def test_a_training_is_complete_when_its_last_step_is_saved_and_validated() -> None:
    (training,) = trainings("a")
    assert not training.is_complete()
    write_log("a", {"step": 4, "lr": 0.1, "loss": 2.0}, {"step": 0, "coco/segm_mAP": 0.5})
    assert not training.is_complete()
    training.final_checkpoint.touch()
    assert training.is_complete()


@pytest.mark.parametrize("name", ["iter_4.pth", "preempted.pth"])
def test_a_checkpoint_whose_validation_is_missing_is_removed_unless_it_notes_that(name: str) -> None:
    """`--resume` validates only after a step, or if a signal has stopped the validation."""
    write_log("a", {"step": 4, "lr": 0.1, "loss": 2.0})
    for file in ("iter_2.pth", "iter_4.pth", name):
        Path("a", file).touch()
    set_last_checkpoint(Path("a", name), Path("a"))
    run("", "a")
    assert Path("a/iter_4.pth").exists() == (name == "preempted.pth")
    assert Path("a/iter_2.pth").exists()


def test_a_process_trains_as_ibkd_train_does_and_validates_again_what_was_killed(
    tiny: Path, trained: TrainResult
) -> None:
    """Whatever lies in the current folder, such as a file with the name of a package."""
    Path("mmengine.py").write_text("raise SystemExit('not this one')")
    config = Path("every.py")
    config.write_text(f"_base_ = '{tiny}'\ndefault_hooks = dict(checkpoint=dict(interval=1))\n")
    training = Training("a", config, Path("a"), steps=2, threads=1)
    steps: list[Any] = []

    def start() -> None:
        run_trainings([training], lambda _, step: steps.append(step), steps.append, print, COMMAND)

    start()
    assert steps[-2:] == [2, training]
    assert training.is_complete()
    weights = [load_weights(training.final_checkpoint)["state_dict"]]
    (scalars,) = training.scalar_files()
    scalars.write_text("".join(scalars.read_text().splitlines(keepends=True)[:-1]))
    assert not training.is_complete()
    start()
    assert training.is_complete()
    weights.append(load_weights(training.final_checkpoint)["state_dict"])
    expected = load_weights(trained.last)["state_dict"]
    for found in weights:
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_ibkd_train_with_loader_workers_saves_when_it_is_stopped(tiny: Path) -> None:
    config = Path("long.py")
    config.write_text(
        f"_base_ = '{tiny}'\ntrain_cfg = dict(max_iters=100000)\n"
        "train_dataloader = dict(num_workers=1)\n"
        "default_hooks = dict(checkpoint=dict(interval=100000))\n"
    )
    training = Training("a", config, Path("a"), steps=100000, threads=1)

    def interrupt(_: Training, step: int) -> None:
        if step >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trainings([training], interrupt, print, print)
    assert load_weights(Path("a/preempted.pth"))["meta"]["iter"] >= 2
