"""The child's side: a training that tells of itself, and one that is gone on with."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.logging import MMLogger

from ibkd_mm.apis.quickstart import child
from ibkd_mm.apis.quickstart.child import Telling, learn
from ibkd_mm.apis.quickstart.children import FINISHED
from ibkd_mm.engine import load_weights


def steps_told(config: Path, folder: Path) -> list[int]:
    told: list[dict[str, Any]] = []
    learn(config, folder, lambda **what: told.append(what))
    return [one["step"] for one in told if "step" in one]


def test_a_training_tells_its_steps_and_marks_its_end(tiny: Path, tmp_path: Path) -> None:
    assert steps_told(tiny, tmp_path / "a") == [0, 1, 2]
    assert (tmp_path / "a" / FINISHED).read_text() == "iter_2.pth\n"


def test_one_that_was_killed_while_it_was_judged_is_judged(tiny: Path, tmp_path: Path) -> None:
    """Its last checkpoint is there, and no validation: only its last steps bring that."""
    config = tmp_path / "every.py"
    config.write_text(f"_base_ = '{tiny}'\ndefault_hooks = dict(checkpoint=dict(interval=1))\n")
    folder = tmp_path / "a"
    assert steps_told(config, folder) == [0, 1, 2]
    first = load_weights(folder / "iter_2.pth")["state_dict"]
    (folder / FINISHED).unlink()
    assert steps_told(config, folder) == [1, 2]
    again = load_weights(folder / "iter_2.pth")["state_dict"]
    assert all((first[name] == again[name]).all() for name in first)
    scalars = sorted(folder.glob("*/vis_data/scalars.json"))[-1].read_text()
    assert "coco/bbox_mAP" in json.loads(scalars.splitlines()[-1])


def test_warnings_of_ours_alone_are_passed_on() -> None:
    told: list[dict[str, Any]] = []
    logger = MMLogger.get_instance("telling")
    hook = Telling(lambda **what: told.append(what))
    hook.before_train(SimpleNamespace(logger=logger, iter=5))
    logger.warning("from a test, which is no part of the package")
    ours = logger.makeRecord("", 30, str(Path(learn.__code__.co_filename)), 1, "%d bad samples", (3,), None)
    logger.handle(ours)
    assert told == [{"step": 5}, {"warning": "3 bad samples"}]


def test_it_ends_as_soon_as_nobody_holds_its_input(tiny: Path, tmp_path: Path) -> None:
    """As a process: it saves, and the next one goes on from there. Workers do not stand in its way."""
    config = tmp_path / "long.py"
    config.write_text(
        f"_base_ = '{tiny}'\ntrain_cfg = dict(max_iters=100000)\n"
        "train_dataloader = dict(num_workers=1)\n"
        "default_hooks = dict(checkpoint=dict(interval=100000))\n"
    )
    with Path("errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ibkd_mm.apis.quickstart.child", str(config), "a"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("step", 0) >= 2:
            break
    process.stdin.close()
    assert process.wait(60) == os.EX_TEMPFAIL, Path("errors.txt").read_text()
    assert load_weights(Path("a/preempted.pth"))["meta"]["iter"] >= 2


def test_an_error_of_the_user_is_told_and_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    way = StringIO()
    monkeypatch.setattr(child, "_own_output", lambda: way)
    monkeypatch.setattr(child, "_end_with_input", lambda: None)
    assert child.main(["none.py", "a"]) == 2
    assert json.loads(way.getvalue())["error"].startswith("There is no config none.py")
