"""Steps that are not finite are named, skipped and counted; too many in a row stop the training."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT
from helpers.spoilt_steps import CONFIG
from mmengine.config import Config

from ibkd_mm.engine import NonFiniteGuard, ResumableRunner, load_weights
from ibkd_mm.engine.replay.file import read_step
from ibkd_mm.errors import UserError

SGD = {"_delete_": True, "type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
ADAMW = {"_delete_": True, "type": "AdamW", "lr": 0.1, "weight_decay": 0.1}

State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _configs_find_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("yapf.yapflib.yapf_api.FormatCode", lambda text, **_: (text, False))


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., ResumableRunner]:
    """A runner over spoilt steps, with settings of the config replaced."""

    def make(kinds: list[str], **settings: Any) -> ResumableRunner:
        name = f"config_{len(list(tmp_path.glob('*.py')))}"
        file = tmp_path / f"{name}.py"
        file.write_text(CONFIG.format(kinds=kinds, steps=len(kinds)))
        config = Config.fromfile(file)
        config.merge_from_dict(
            {"work_dir": str(tmp_path / name), "experiment_name": f"{tmp_path.name}_{name}", **settings}
        )
        return ResumableRunner.from_cfg(config)

    return make


def _witness(runner: ResumableRunner) -> Any:
    return next(hook for hook in runner.hooks if type(hook).__name__ == "Witness")


def _log(runner: ResumableRunner) -> str:
    return next(Path(runner.log_dir).glob("*.log")).read_text()


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _skipped(runner: ResumableRunner) -> list[float]:
    return list(runner.message_hub.get_scalar("train/skipped_steps").data[0])


def test_a_non_finite_loss_is_named_counted_and_after_patience_stopped_with_the_batch_dumped(
    build: Callable[..., ResumableRunner], tmp_path: Path
) -> None:
    runner = build(["", "nan", "", "inf", "gradient", "nan", ""])
    with pytest.raises(UserError) as stop:
        runner.train()
    file = Path(runner.work_dir) / "non_finite_iter_6.replay"
    said = str(stop.value)
    assert said.startswith("Stopped at iteration 6, which is not finite (3 in a row): loss_mask is nan. ")
    assert f"`ibkd replay {file}`" in said
    log = _log(runner)
    assert "Iteration 2 is skipped (1 of 3 in a row): loss_mask is nan." in log
    assert "Iteration 4 is skipped (1 of 3 in a row): loss_mask is inf." in log
    assert "Iteration 5 is skipped (2 of 3 in a row): the gradient of mask is not finite." in log
    assert _skipped(runner) == [1, 2, 3, 4]
    first, second = (
        line for line in log.splitlines() if "Iter(train) [1/7]" in line or "Iter(train) [2/7]" in line
    )
    assert "skipped_steps" not in first
    assert "skipped_steps: 1" in second
    step = read_step(file)
    before = _witness(runner).before[5]
    assert _same(step.state_dict, {name: before[name] for name in runner.model.state_dict()})
    assert (step.seed, step.rank, step.iteration, step.config) == (5, 0, 5, "config_0.py")
    assert (Path(runner.work_dir) / step.config).is_file()
    batch = [runner.train_dataloader.dataset.dataset[index] for index in (10, 11)]
    assert all(torch.equal(step.batch["inputs"][one], batch[one]["inputs"]) for one in range(2))
    assert step.batch["data_samples"][0].kind == "nan"
    assert torch.equal(
        step.batch["data_samples"][0].gt_instances.bboxes.tensor,
        batch[0]["data_samples"].gt_instances.bboxes.tensor,
    )


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient", "features", "statistics"])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_skipped_step_changes_no_bit(
    build: Callable[..., ResumableRunner], optimizer: dict[str, Any], kind: str
) -> None:
    settings = {"optim_wrapper.optimizer": optimizer, "model.dropout": 0.0}
    spoilt = build(["", kind, ""], **settings)
    spoilt.train()
    witness = _witness(spoilt)
    assert _same(witness.before[1], witness.after[1])
    assert not _same(witness.before[2], witness.after[2])
    without = build(["", ""], **settings, **{"train_dataloader.dataset.numbers": [0, 2]})
    without.train()
    assert _same(witness.after[2], _witness(without).after[1])


def test_statistics_that_overflow_are_named(build: Callable[..., ResumableRunner]) -> None:
    runner = build(["statistics", ""])
    runner.train()
    assert "Iteration 1 is skipped (1 of 3 in a row): the statistics of norm is not finite." in _log(runner)


def test_a_bad_part_of_a_batch_drops_the_gradients_gathered_with_it(
    build: Callable[..., ResumableRunner],
) -> None:
    settings = {"optim_wrapper.accumulative_counts": 3, "model.dropout": 0.0}
    runner = build(["", "inf", "", "", "", ""], **settings)
    runner.train()
    witness = _witness(runner)
    for name in ("conv.weight", "cls.weight", "mask.bias"):
        assert torch.equal(witness.before[0][name], witness.after[2][name])
        assert not torch.equal(witness.after[2][name], witness.after[5][name])
    assert _skipped(runner) == [1]
    assert "Iteration 3 is skipped (1 of 3 in a row): loss_mask is inf." in _log(runner)
    # The second step starts from the same weights with the momentum of none.
    fresh = build(["", "", ""], **settings, **{"train_dataloader.dataset.numbers": [3, 4, 5]})
    fresh.train()
    assert torch.equal(witness.after[5]["conv.weight"], _witness(fresh).after[2]["conv.weight"])


def test_the_bad_part_of_a_batch_is_the_one_that_is_dumped(build: Callable[..., ResumableRunner]) -> None:
    runner = build(
        ["", "nan", "", ""],
        **{"optim_wrapper.accumulative_counts": 4, "default_hooks.non_finite.patience": 1},
    )
    with pytest.raises(UserError, match=r"iteration 4, which is not finite \(1 in a row\)"):
        runner.train()
    step = read_step(Path(runner.work_dir) / "non_finite_iter_4.replay")
    assert step.iteration == 1
    assert step.batch["data_samples"][0].kind == "nan"


def test_the_batch_is_dumped_as_the_loader_gave_it(build: Callable[..., ResumableRunner]) -> None:
    runner = build(["in place"], **{"default_hooks.non_finite.patience": 1})
    with pytest.raises(UserError):
        runner.train()
    step = read_step(Path(runner.work_dir) / "non_finite_iter_1.replay")
    assert torch.equal(step.batch["inputs"][0], runner.train_dataloader.dataset.dataset[0]["inputs"])


def test_mixed_precision_on_a_cpu_is_guarded_alike(build: Callable[..., ResumableRunner]) -> None:
    runner = build(["", "nan", "gradient", ""], **{"optim_wrapper.type": "ibkd_mm.CpuAmpOptimWrapper"})
    runner.train()
    witness = _witness(runner)
    assert _same(witness.before[1], witness.after[2])
    assert not _same(witness.before[3], witness.after[3])
    assert _skipped(runner) == [1, 2]


@pytest.mark.parametrize("fused", [False, True])  # a fused optimizer is called also for what it leaves out
def test_what_a_gradient_scaler_skips_itself_is_not_counted(
    build: Callable[..., ResumableRunner], monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    upstream = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{upstream}.is_cuda_available", lambda: True)
    monkeypatch.setattr(f"{upstream}.GradScaler", partial(torch.amp.GradScaler, "cpu", init_scale=2.0))
    optimizer = {**ADAMW, "fused": fused}
    settings = {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.optimizer": optimizer}
    runner = build(["gradient", "inf", "nan", ""], **settings)
    runner.train()
    witness = _witness(runner)
    assert _same(witness.before[1], witness.after[2])
    assert not _same(witness.before[3], witness.after[3])
    log = _log(runner)
    assert "Iteration 1 is skipped" not in log
    assert "Iteration 2 is skipped (1 of 3 in a row): loss_mask is inf." in log
    assert "Iteration 3 is skipped (2 of 3 in a row): loss_mask is nan." in log


def test_counting_continues_after_a_resume(build: Callable[..., ResumableRunner]) -> None:
    kinds = ["nan", "", "nan", ""]
    first = build(kinds, **{"train_cfg.max_iters": 2, "default_hooks.checkpoint.interval": 2})
    first.train()
    second = build(kinds, resume=True, load_from=f"{first.work_dir}/iter_2.pth")
    second.train()
    assert _skipped(second) == [1, 2]


def test_a_disk_that_is_full_still_stops_the_training_and_is_named(
    build: Callable[..., ResumableRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, step: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ibkd_mm.engine.hooks.non_finite.write_step", full)
    runner = build(["nan"], **{"default_hooks.non_finite.patience": 1})
    with pytest.raises(UserError, match=r"could not be written \(.*No space left on device\)"):
        runner.train()


def test_nothing_stays_attached_to_model_and_optimizer(build: Callable[..., ResumableRunner]) -> None:
    runner = build([""])
    runner.train()
    assert not runner.model._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_patience_is_at_least_one() -> None:
    with pytest.raises(UserError, match="patience of at least 1 in NonFiniteGuard, found 0"):
        NonFiniteGuard(patience=0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.e2e
def test_all_processes_skip_and_stop_when_one_is_at_fault(tmp_path: Path) -> None:
    # The second process's loss becomes infinite, with gradients that are finite in both.
    config, work_dir = tmp_path / "two.py", tmp_path / "two"
    text = CONFIG.format(kinds=["", "inf@1", "", "inf@1", "inf@1", ""], steps=6)
    text = text.replace("interval=100", "interval=3").replace("patience=3", "patience=2")
    config.write_text(text.replace("batch_size=2", "batch_size=1"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_port", str(_free_port()), str(ROOT / "tools" / "train.py"), str(config)]
    done = subprocess.run(
        [*launch, "--launcher", "pytorch", "--work-dir", str(work_dir)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    file = work_dir / "non_finite_iter_5_rank_1.replay"
    assert "Iteration 2 is skipped (1 of 2 in a row): loss_mask is inf." in done.stdout + done.stderr
    assert f"(2 in a row): loss_mask is inf. `ibkd replay {file}` runs it again" in done.stderr
    assert [one.name for one in work_dir.glob("*.replay")] == [file.name]
    step, first = read_step(file), load_weights(str(work_dir / "iter_3.pth"))
    assert (step.rank, step.iteration) == (1, 4)
    for name in ("conv.weight", "norm.weight", "cls.weight", "mask.weight"):
        assert torch.equal(step.state_dict[name], first["state_dict"][name])
