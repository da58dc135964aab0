"""What a training with an average saves, resumes and validates; the weights never lose their place."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_training import warned
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from torch import Tensor

from ibkd_mm.engine import ResumableRunner, StudentEMAHook, load_weights

Toy = Callable[..., ResumableRunner]


def _ema(runner: ResumableRunner) -> StudentEMAHook:
    return next(hook for hook in runner.hooks if isinstance(hook, StudentEMAHook))


def _hook(**settings: Any) -> dict[str, Any]:
    return {"type": "ibkd_mm.StudentEMAHook", "decay": 0.9, "warmup": 3, **settings}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _copy(runner: ResumableRunner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def _averages(runner: ResumableRunner) -> dict[str, Tensor]:
    checkpoint = {"state_dict": _copy(runner)}
    _ema(runner).before_save_checkpoint(runner, checkpoint)
    return {name: value.clone() for name, value in checkpoint["state_dict"].items()}


def test_four_steps_straight_equal_two_steps_stop_resume_and_two_steps(toy: Toy, tmp_path: Path) -> None:
    straight = toy(tmp_path / "straight", 4, hooks=[_hook()])
    straight.train()
    toy(tmp_path / "parts", 2, hooks=[_hook()]).train()
    resumed = toy(
        tmp_path / "parts", 4, hooks=[_hook()], resume=True, load_from=f"{tmp_path}/parts/iter_2.pth"
    )
    resumed.train()
    whole, parts = (load_weights(tmp_path / name / "iter_4.pth") for name in ("straight", "parts"))
    assert whole["ema"] == parts["ema"] == {"updates": 4}
    for key in ("state_dict", "raw_state_dict"):
        assert _same(whole[key], parts[key]), key
    assert not _same(
        {name: whole["state_dict"][name] for name in whole["raw_state_dict"]}, whole["raw_state_dict"]
    )
    assert _same(_copy(straight), _copy(resumed))


def test_a_checkpoint_is_what_is_deployed(toy: Toy, tmp_path: Path) -> None:
    runner = toy(tmp_path, 3, hooks=[_hook()])
    runner.train()
    checkpoint = load_weights(tmp_path / "iter_3.pth")
    plain = type(runner.model)()
    plain.load_state_dict(checkpoint["state_dict"], strict=True)
    assert _same(dict(checkpoint["state_dict"]), _averages(runner))
    live = _copy(runner)
    assert set(live) - set(checkpoint["raw_state_dict"]) == {"body.1.num_batches_tracked"}
    assert all(torch.equal(live[name], value) for name, value in checkpoint["raw_state_dict"].items())
    assert checkpoint["state_dict"]["body.1.num_batches_tracked"] == 3


def test_an_accumulated_step_counts_once(toy: Toy, tmp_path: Path) -> None:
    runner = toy(tmp_path, 6, hooks=[_hook()], optim={"accumulative_counts": 3})
    runner.train()
    assert load_weights(tmp_path / "iter_6.pth")["ema"] == {"updates": 2}


def test_a_step_that_is_not_finite_does_not_count(toy: Toy, tmp_path: Path) -> None:
    handle = None

    class Nan(Hook):
        priority = "VERY_LOW"

        def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            nonlocal handle
            self.before = _averages(runner)
            if runner.iter == 1:
                handle = runner.model.head.register_forward_hook(lambda *args: args[2] * float("nan"))

        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            assert _same(self.before, _averages(runner)) == (runner.iter == 1)
            if handle is not None:
                handle.remove()

    guards = {"non_finite": {"type": "ibkd_mm.NonFiniteGuard"}}
    runner = toy(tmp_path, 3, hooks=[_hook()], guards=guards)
    runner.register_hook(Nan())
    runner.train()
    assert _ema(runner).updates == 2


def _mean_logit(runner: ResumableRunner, weights: dict[str, Tensor]) -> float:
    """Validate the given weights, with neither hook nor swap."""
    model = type(runner.model)()
    model.load_state_dict(weights)
    model.eval()
    with torch.no_grad():
        batches = [model.val_step(batch)[0] for batch in runner.val_dataloader]
    return sum(float(one.mean()) for one in batches) / len(batches)


class _Count(Hook):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def before_val(self, runner: Any) -> None:
        self.calls.append("before_val")

    def after_val_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.calls.append("after_val_iter")

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.calls.append("after_val_epoch")


@pytest.mark.parametrize("evaluate", ["ema", "raw", "both"])
def test_average_and_raw_weights_are_validated_side_by_side(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluate: str
) -> None:
    sample = {"inputs": torch.linspace(0, 1, 4), "target": torch.tensor(0)}
    monkeypatch.setattr(DATASETS.get("Noisy"), "__getitem__", lambda self, index: sample)
    count, saving = _Count(), {"save_best": "auto", "rule": "greater"}
    runner = toy(tmp_path, 3, hooks=[_hook(evaluate=evaluate)], validate=True, saving=saving)
    runner.register_hook(count)
    runner.train()
    assert count.calls == ["before_val", *["after_val_iter"] * 3, "after_val_epoch"]
    average, raw = _mean_logit(runner, _averages(runner)), _mean_logit(runner, _copy(runner))
    assert average != pytest.approx(raw, abs=1e-4)
    found = {
        name: one.current() for name, one in runner.message_hub.log_scalars.items() if name.startswith("val/")
    }
    found = {name: value for name, value in found.items() if name.endswith("mean")}
    expected = {
        "ema": {"val/toy/mean": average},
        "raw": {"val/toy/mean": raw},
        "both": {"val/toy/mean": average, "val/raw/toy/mean": raw},
    }
    assert found == pytest.approx(expected[evaluate], abs=1e-6)
    assert runner.message_hub.get_info("best_score") == found["val/toy/mean"]


class _Break(Hook):
    """Raises an error in the second step of a validation, inside the model or between two calls of it."""

    priority = "LOWEST"

    def __init__(self, where: str, error: type[BaseException]) -> None:
        self.where, self.error = where, error

    def before_val_epoch(self, runner: Any) -> None:
        self.raw, self.average = _copy(runner), _averages(runner)

    def before_val_iter(self, runner: Any, batch_idx: int, *_: Any, **__: Any) -> None:
        if batch_idx == 1 and self.where == "between":
            raise self.error
        if batch_idx == 1:
            self.runner = runner
            self.handle = runner.model.head.register_forward_hook(self.inside)

    def inside(self, *_: Any) -> None:
        self.predicting = _copy(self.runner)
        self.handle.remove()
        raise self.error


@pytest.mark.parametrize("where", ["between", "inside"])
def test_an_error_half_way_through_a_validation_leaves_the_raw_weights_in_their_place(
    toy: Toy, tmp_path: Path, where: str
) -> None:
    broken = _Break(where, RuntimeError)

    class Validate(Hook):
        priority = "LOWEST"

        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            if runner.iter == 1:
                with pytest.raises(RuntimeError):
                    runner.val_loop.run()
                assert _same(_copy(runner), broken.raw)
                assert not _same(broken.raw, broken.average)
                assert where == "between" or _same(broken.predicting, broken.average)
                assert _same(_averages(runner), broken.average)
                broken.where = "nowhere"

    loop = {"val_interval": 100, "val_begin": 100}
    runner = toy(tmp_path / "broken", 4, hooks=[_hook()], validate=True, loop=loop)
    for hook in (broken, Validate()):
        runner.register_hook(hook)
    runner.train()
    straight = toy(tmp_path / "straight", 4, hooks=[_hook()], validate=True, loop=loop)
    straight.train()
    assert _same(_copy(runner), _copy(straight))
    assert _same(_averages(runner), _averages(straight))


def test_an_interrupted_validation_too(toy: Toy, tmp_path: Path) -> None:
    broken = _Break("inside", KeyboardInterrupt)
    runner = toy(tmp_path, 3, hooks=[_hook()], validate=True)
    runner.register_hook(broken)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert _same(broken.predicting, broken.average)
    assert _same(_copy(runner), broken.raw)
    assert not runner.model._forward_pre_hooks
    assert not runner.model._forward_hooks


def test_a_checkpoint_may_be_saved_at_any_time(toy: Toy, tmp_path: Path) -> None:
    class Save(Hook):
        priority = "LOWEST"

        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            runner.save_checkpoint(str(tmp_path), f"train_{runner.iter + 1}.pth")
            torch.save(_averages(runner), tmp_path / f"expected_{runner.iter + 1}.pth")

        def after_val_iter(self, runner: Any, batch_idx: int, *_: Any, **__: Any) -> None:
            runner.save_checkpoint(str(tmp_path), f"val_{batch_idx}.pth")

    runner = toy(tmp_path, 2, hooks=[_hook()], validate=True)
    runner.register_hook(Save())
    runner.train()
    saved = load_weights(tmp_path / "iter_2.pth")
    for name in ("train_2.pth", "val_0.pth", "val_2.pth"):
        found = load_weights(tmp_path / name)
        assert _same(dict(found["state_dict"]), dict(saved["state_dict"]))
        assert _same(found["raw_state_dict"], saved["raw_state_dict"])
    early = load_weights(tmp_path / "train_1.pth")
    assert early["ema"] == {"updates": 1}
    assert _same(dict(early["state_dict"]), torch.load(tmp_path / "expected_1.pth"))


def test_resuming_without_an_average_warns_and_starts_with_the_weights(toy: Toy, tmp_path: Path) -> None:
    toy(tmp_path / "plain", 2).train()
    runner = toy(
        tmp_path / "plain", 3, hooks=[_hook()], resume=True, load_from=f"{tmp_path}/plain/iter_2.pth"
    )
    said = warned(runner)
    assert said == ["The checkpoint has no average of StudentEMAHook: a new one starts with its weights."]
    before = load_weights(tmp_path / "plain" / "iter_2.pth")["state_dict"]
    after = load_weights(tmp_path / "plain" / "iter_3.pth")
    assert after["ema"] == {"updates": 1}
    decay = 0.9 * (1 - math.exp(-1 / 3))
    expected = decay * before["head.weight"] + (1 - decay) * after["raw_state_dict"]["head.weight"]
    torch.testing.assert_close(after["state_dict"]["head.weight"], expected)


def test_fine_tuning_begins_with_the_average(toy: Toy, tmp_path: Path) -> None:
    toy(tmp_path / "first", 2, hooks=[_hook()]).train()
    saved = load_weights(tmp_path / "first" / "iter_2.pth")
    seen = {}

    class See(Hook):
        def before_train(self, runner: Any) -> None:
            seen.update(_copy(runner))

    runner = toy(tmp_path / "second", 1, hooks=[_hook()], load_from=f"{tmp_path}/first/iter_2.pth")
    runner.register_hook(See())
    runner.train()
    assert _same(seen, dict(saved["state_dict"]))
    assert load_weights(tmp_path / "second" / "iter_1.pth")["ema"] == {"updates": 1}
