"""Four steps straight equal two, stop, resume, two: bit for bit, EMA and random states included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toy_training import warned
from mmengine.logging import HistoryBuffer
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from ibkd_mm.engine import ResumableRunner, load_weights, loops
from ibkd_mm.engine.checkpoint.latest import find_resumable

Toy = Callable[..., ResumableRunner]
EMA = {"type": "EMAHook", "momentum": 0.1, "update_buffers": True}


def differing(left: Any, right: Any, at: str = "") -> list[str]:
    """Name every place at which two checkpoints differ; times, paths and validations are not compared."""
    if at == "/message_hub/log_scalars":
        left, right = ({k: v for k, v in one.items() if k.startswith("train/")} for one in (left, right))
    if isinstance(left, dict):
        assert left.keys() == right.keys(), (at, left.keys() ^ right.keys())
        return [place for key in left for place in differing(left[key], right[key], f"{at}/{key}")]
    if isinstance(left, list | tuple):
        assert len(left) == len(right), at
        return [
            place
            for i, pair in enumerate(zip(left, right, strict=True))
            for place in differing(*pair, f"{at}/{i}")
        ]
    if isinstance(left, HistoryBuffer):
        same = np.array_equal(left._log_history, right._log_history)
    elif isinstance(left, torch.Tensor):
        same = torch.equal(left, right)
    else:
        same = left == right
    of_a_run = ("time", "data_time", "experiment_name", "cfg", "last_ckpt", "best_ckpt")
    return [] if same or any(part in of_a_run for part in at.split("/")) else [at]


def state(folder: Path) -> dict[str, Any]:
    found = find_resumable(folder)
    assert found is not None
    return load_weights(found)


def resume(toy: Toy, folder: Path, steps: int, **changes: Any) -> ResumableRunner:
    runner = toy(folder, steps, resume=True, load_from=str(find_resumable(folder)), **changes)
    runner.train()
    return runner


def trained_twice(
    toy: Toy, folder: Path, stop: int = 2, end: int = 4, **changes: Any
) -> tuple[ResumableRunner, ResumableRunner]:
    """Train once straight and once with a stop; check that both end with the same checkpoint."""
    straight = toy(folder / "straight", end, **changes)
    straight.train()
    toy(folder / "stopped", stop, **changes).train()
    resumed = resume(toy, folder / "stopped", end, **changes)
    assert differing(state(folder / "straight"), state(folder / "stopped")) == []
    return straight, resumed


@pytest.mark.parametrize("sampler", ["DefaultSampler", "InfiniteSampler"])
@pytest.mark.parametrize("workers", [0, 2])
def test_four_iterations_equal_two_and_two(toy: Toy, tmp_path: Path, workers: int, sampler: str) -> None:
    # An epoch has three batches: the resumed run starts within the first and ends in the second.
    trained_twice(toy, tmp_path, workers=workers, sampler=sampler, hooks=[EMA], validate=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_four_epochs_equal_two_and_two(toy: Toy, tmp_path: Path, workers: int) -> None:
    trained_twice(toy, tmp_path, workers=workers, epochs=True, hooks=[EMA], validate=True)


@pytest.mark.parametrize(
    "changes", [{"optim": {"type": "ibkd_mm.CpuAmpOptimWrapper"}}, {"optim": {"accumulative_counts": 2}}]
)
def test_resuming_is_exact_with(toy: Toy, tmp_path: Path, changes: dict[str, Any]) -> None:
    trained_twice(toy, tmp_path, **changes)


@pytest.mark.parametrize(("seed", "workers"), [(None, 0), (1, 2)])
def test_resuming_is_exact_without_a_seed_and_with_other_workers(
    toy: Toy, tmp_path: Path, seed: int | None, workers: int
) -> None:
    toy(tmp_path / "stopped", 2, seed=seed).train()
    toy(tmp_path / "straight", 4, seed=state(tmp_path / "stopped")["meta"]["seed"]).train()
    resume(toy, tmp_path / "stopped", 4, seed=seed, workers=workers)
    assert differing(state(tmp_path / "straight"), state(tmp_path / "stopped")) == []


class ScaledOnCpu(AmpOptimWrapper):
    """mmengine's, which scales losses on a GPU alone, made to do so here."""

    def __init__(self, **kwargs: Any) -> None:
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
        self._scale_update_param, self.cast_dtype = None, torch.bfloat16


def test_the_scaler_of_mixed_precision_is_resumed(toy: Toy, tmp_path: Path) -> None:
    OPTIM_WRAPPERS.register_module(module=ScaledOnCpu, force=True)
    _, resumed = trained_twice(toy, tmp_path, optim={"type": "ScaledOnCpu"})
    scaler = resumed.optim_wrapper.loss_scaler.state_dict()  # type: ignore[union-attr]
    assert (scaler["scale"], scaler["_growth_tracker"]) == (128.0, 1)  # doubled after the third step


def test_the_seed_decides(toy: Toy, tmp_path: Path) -> None:
    for seed in (1, 2):
        toy(tmp_path / str(seed), 2, seed=seed).train()
    assert "/state_dict/head.weight" in differing(state(tmp_path / "1"), state(tmp_path / "2"))


def test_best_score_and_kept_checkpoints_are_resumed(toy: Toy, tmp_path: Path) -> None:
    saving = {"save_best": "toy/mean", "rule": "greater", "interval": 1, "max_keep_ckpts": 2}
    straight, resumed = trained_twice(toy, tmp_path, validate=True, saving=saving, loop={"val_interval": 1})
    infos = [runner.message_hub.runtime_info for runner in (straight, resumed)]
    assert infos[0]["best_score"] == infos[1]["best_score"]
    assert infos[0]["keep_ckpt_ids"] == infos[1]["keep_ckpt_ids"] == [3, 4]
    names = [sorted(path.name for path in Path(r.work_dir).glob("*.pth")) for r in (straight, resumed)]
    assert names[0] == names[1]
    assert len(names[0]) == 3  # two and the best


def test_another_batch_size_is_warned_about(toy: Toy, tmp_path: Path) -> None:
    toy(tmp_path, 2).train()
    runner = toy(tmp_path, 3, resume=True, load_from=str(tmp_path / "iter_2.pth"), batch_size=2)
    said = warned(runner)
    assert any("Resuming cannot be exact: batch_size from 4 to 2" in line for line in said)
    # Two batches of four are four of two; one more was consumed.
    assert (runner.train_loop.batches.epoch, runner.train_loop.batches.consumed) == (0, 5)  # type: ignore[attr-defined]


def test_another_number_of_processes_or_samples_is_warned_about(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "get_world_size", lambda: 2)
    toy(tmp_path, 1).train()
    monkeypatch.undo()
    changes = {"resume": True, "load_from": str(tmp_path / "iter_1.pth"), "dataset": {"samples": 16}}
    runner = toy(tmp_path, 2, **changes)
    assert any("exact: processes from 2 to 1, samples from 12 to 16." in line for line in warned(runner))
    # One batch in each of two processes is two in one; one more was consumed.
    assert runner.train_loop.batches.consumed == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "at"),
    [({}, (1, 2)), ({"sampler": "InfiniteSampler"}, (0, 5)), ({"epochs": True}, (4, 3))],
)
def test_a_checkpoint_of_mmengine_resumes_near_its_position_with_a_warning(
    toy: Toy, tmp_path: Path, changes: dict[str, Any], at: tuple[int, int]
) -> None:
    toy(tmp_path, 4, **changes).train()
    checkpoint = state(tmp_path)
    del checkpoint["data_position"]
    torch.save(checkpoint, tmp_path / "foreign.pth")
    runner = toy(tmp_path, 5, resume=True, load_from=str(tmp_path / "foreign.pth"), **changes)
    assert any("not written by ibkd_mm" in line for line in warned(runner))
    assert (runner.train_loop.batches.epoch, runner.train_loop.batches.consumed) == at  # type: ignore[attr-defined]


@pytest.mark.parametrize("changes", [{}, {"sampler": "InfiniteSampler"}, {"epochs": True}])
def test_a_checkpoint_with_the_former_names_of_the_position_is_resumed_exactly(
    toy: Toy, tmp_path: Path, changes: dict[str, Any]
) -> None:
    toy(tmp_path / "straight", 6, **changes).train()
    toy(tmp_path / "former", 4, **changes).train()
    checkpoint = state(tmp_path / "former")
    position = checkpoint.pop("data_position")
    checkpoint["place"] = {
        "turn": position.pop("epoch"),
        "taken": position.pop("consumed_batches"),
        **position,
    }
    assert set(checkpoint["place"]) == {"turn", "taken", "batch_size", "processes", "samples"}
    torch.save(checkpoint, find_resumable(tmp_path / "former"))
    resume(toy, tmp_path / "former", 6, **changes)
    assert differing(state(tmp_path / "straight"), state(tmp_path / "former")) == []


def test_a_schedule_that_the_checkpoint_changes_is_named(toy: Toy, tmp_path: Path) -> None:
    toy(tmp_path, 2).train()
    runner = toy(tmp_path, 3, resume=True, load_from=str(tmp_path / "iter_2.pth"), schedule={"T_max": 20})
    said = warned(runner)
    assert any("param_scheduler.0.T_max is 9 as in the checkpoint, not 20" in line for line in said)


def test_a_checkpoint_within_an_accumulation_is_warned_about(toy: Toy, tmp_path: Path) -> None:
    runner = toy(tmp_path, 4, optim={"accumulative_counts": 2}, saving={"interval": 1})
    said = warned(runner)
    assert sum("multiple of accumulative_counts" in line for line in said) == 2  # after the first and third


def test_a_stop_in_a_later_epoch_is_resumed_there(toy: Toy, tmp_path: Path) -> None:
    _, resumed = trained_twice(toy, tmp_path, stop=4, end=6)  # an epoch has three batches
    batches = resumed.train_loop.batches  # type: ignore[attr-defined]
    assert (batches.epoch, batches.consumed) == (1, 3)
