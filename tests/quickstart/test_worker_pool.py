"""The parent's side, with small programs in place of trainings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.quickstart import worker_pool as children
from ibkd_mm.quickstart.worker_pool import FINISHED, Job, TrainingFailedError, run_beside

HEAD = """
import json, os, sys, time
def tell(**what): print(json.dumps(what), flush=True)
folder = sys.argv[2]
"""
UNTIL_TOLD = "while os.read(0, 1): pass\nopen(folder + '/saved', 'w').close()\n"


def program(text: str) -> list[str]:
    return [sys.executable, "-c", HEAD + text]


def jobs(*names: str) -> list[Job]:
    return [Job(name, Path(f"{name}.py"), Path(name), threads=3) for name in names]


def run(text: str, *names: str) -> tuple[list[Any], list[str]]:
    told: list[Any] = []
    warned: list[str] = []
    run_beside(jobs(*names), lambda job, step: told.append((job.name, step)), warned.append, program(text))
    return told, warned


def test_steps_and_warnings_are_heard_and_each_has_its_threads() -> None:
    text = """
tell(step=1)
tell(warning='w ' + os.environ['OMP_NUM_THREADS'])
tell(step=2)
print('x', file=sys.stderr)
"""
    told, warned = run(text, "a", "b")
    for name in ("a", "b"):
        assert [step for who, step in told if who == name] == [1, 2, None]
        assert Path(name, "console.txt").read_text() == "x\n"
    assert sorted(warned) == ["a: w 3", "b: w 3"]


def test_they_run_beside_each_other() -> None:
    """Each waits for what the other has written."""
    meet = """
other = {'a': 'b', 'b': 'a'}[folder]
open(folder + '/here', 'w').close()
until = time.time() + 20
while not os.path.exists(other + '/here'):
    assert time.time() < until
    time.sleep(0.01)
"""
    assert sorted(run(meet, "a", "b")[0]) == [("a", None), ("b", None)]


def test_a_fault_is_shown_with_its_last_lines_and_the_other_one_saves_itself() -> None:
    text = f"if folder == 'a': sys.exit('it broke')\n{UNTIL_TOLD}"
    with pytest.raises(TrainingFailedError, match="ended with code 1") as failed:
        run(text, "a", "b")
    assert str(failed.value).endswith("a/console.txt ends:\nit broke")
    assert Path("b/saved").exists()


def test_an_error_of_the_user_stays_one() -> None:
    with pytest.raises(UserError, match="The training in a stopped: No space left"):
        run("tell(error='No space left'); sys.exit(2)", "a")


def test_a_stop_is_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(job: Job, step: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_beside(jobs("a", "b"), stop, print, program(f"tell(step=1)\n{UNTIL_TOLD}"))
    assert Path("a/saved").exists()
    assert Path("b/saved").exists()


def test_one_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_PATIENCE", 0.2)

    def stop(job: Job, step: int | None) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_beside(jobs("a"), stop, print, program("tell(step=1)\ntime.sleep(60)"))
    assert time.monotonic() - began < 20


def test_where_the_parent_is_killed_the_trainings_save_themselves() -> None:
    parent = f"""
import importlib.util, sys, types
from pathlib import Path
package = sys.modules["ibkd_mm"] = types.ModuleType("ibkd_mm")  # not all of it, which takes seconds
package.__path__ = [{str(Path(children.__file__).parents[2])!r}]
spec = importlib.util.spec_from_file_location("children", {children.__file__!r})
children = importlib.util.module_from_spec(spec)
sys.modules["children"] = children
spec.loader.exec_module(children)
command = {program(f"tell(step=1){chr(10)}{UNTIL_TOLD}")!r}
job = children.Job("a", Path("a.py"), Path("a"), 1)
children.run_beside([job], lambda *_: print("up", flush=True), print, command)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 20
    while not Path("a/saved").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_is_finished_is_told_by_its_marker() -> None:
    (job,) = jobs("a")
    assert not job.finished
    os.mkdir("a")
    Path("a", FINISHED).touch()
    assert job.finished
