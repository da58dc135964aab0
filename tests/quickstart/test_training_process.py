"""The child's side: a training that tells of itself, and one that is gone on with."""

import json
import os
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger

from ibkd_mm.apis import TrainResult
from ibkd_mm.engine import load_weights
from ibkd_mm.quickstart import training_process as child
from ibkd_mm.quickstart.training_process import ProgressHook, learn
from ibkd_mm.quickstart.worker_pool import FINISHED, Job, run_beside


def steps_told(config: Path, folder: Path) -> list[int]:
    told: list[dict[str, Any]] = []
    learn(config, folder, lambda **what: told.append(what))
    return [one["step"] for one in told if "step" in one]


def test_one_that_was_killed_while_it_was_judged_is_judged_before_its_end_is_marked(
    tiny: Path, tmp_path: Path
) -> None:
    """Its last checkpoint is there, and no validation: only its last steps bring that."""
    config = tmp_path / "every.py"
    config.write_text(f"_base_ = '{tiny}'\ndefault_hooks = dict(checkpoint=dict(interval=1))\n")
    folder = tmp_path / "a"
    assert steps_told(config, folder) == [0, 1, 2]
    first = load_weights(folder / "iter_2.pth")["state_dict"]
    assert (folder / FINISHED).read_text() == "iter_2.pth\n"
    (folder / FINISHED).unlink()
    assert steps_told(config, folder) == [1, 2]
    again = load_weights(folder / "iter_2.pth")["state_dict"]
    assert all((first[name] == again[name]).all() for name in first)
    scalars = sorted(folder.glob("*/vis_data/scalars.json"))[-1].read_text()
    assert "coco/bbox_mAP" in json.loads(scalars.splitlines()[-1])


def test_warnings_of_ours_alone_are_passed_on() -> None:
    told: list[dict[str, Any]] = []
    logger = MMLogger.get_instance("telling")
    hook = ProgressHook(lambda **what: told.append(what))
    hook.before_train(SimpleNamespace(logger=logger, iter=5))
    logger.warning("from a test, which is no part of the package")
    ours = logger.makeRecord("", 30, str(Path(learn.__code__.co_filename)), 1, "%d bad samples", (3,), None)
    logger.handle(ours)
    assert told == [{"step": 5}, {"warning": "3 bad samples"}]


def test_a_process_trains_as_this_one_does_whatever_lies_where_it_is_started(
    tiny: Path, trained: TrainResult
) -> None:
    """Such as a file with the name of a package: `python -m` would import that."""
    Path("mmengine.py").write_text("raise SystemExit('not this one')")
    told: list[int | None] = []
    job = Job("a", tiny, Path("a"), threads=1)
    run_beside([job], lambda _, step: told.append(step), print)
    assert told == [0, 1, 2, None]
    assert job.finished
    ours, theirs = (load_weights(file)["state_dict"] for file in (Path("a/iter_2.pth"), trained.last))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_it_ends_as_soon_as_nobody_holds_its_input(tiny: Path, tmp_path: Path) -> None:
    """It saves, and the next one goes on from there. Workers do not stand in its way."""
    config = tmp_path / "long.py"
    config.write_text(
        f"_base_ = '{tiny}'\ntrain_cfg = dict(max_iters=100000)\n"
        "train_dataloader = dict(num_workers=1)\n"
        "default_hooks = dict(checkpoint=dict(interval=100000))\n"
    )
    (own_input, holder), (listener, own_output) = os.pipe(), os.pipe()
    process = os.fork()  # not begun anew, which takes seconds
    if not process:
        os.close(holder)
        os.dup2(own_input, 0)
        sys.stdout = os.fdopen(own_output, "w")
        code = os.EX_SOFTWARE
        try:
            code = child.main([str(config), "a"])
        except SystemExit as left:
            code = left.code
        finally:
            os._exit(code)
    os.close(own_output)
    with os.fdopen(listener) as lines:
        for line in lines:
            if json.loads(line).get("step", 0) >= 2:
                break
    os.close(holder)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == os.EX_TEMPFAIL
    assert load_weights(Path("a/preempted.pth"))["meta"]["iter"] >= 2


def test_an_error_of_the_user_is_told_and_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    way = StringIO()
    monkeypatch.setattr(child, "_own_output", lambda: way)
    monkeypatch.setattr(child, "_end_with_input", lambda: None)
    assert child.main(["none.py", "a"]) == 2
    assert json.loads(way.getvalue())["error"].startswith("There is no config none.py")
