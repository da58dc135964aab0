import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ibkd_mm.apis import TrainResult, train
from ibkd_mm.engine import load_weights
from ibkd_mm.errors import UserError


def _rate(checkpoint: Path | None) -> float:
    return load_weights(str(checkpoint))["param_schedulers"][0]["base_values"][0]


def test_the_result_names_its_files(trained: TrainResult) -> None:
    assert trained.last == trained.work_dir / "iter_2.pth"
    assert trained.best is None
    assert list(trained.log_dir.glob("*.log"))
    assert str(trained).splitlines()[0] == f"Done: work_dir={trained.work_dir}"
    assert f"  last checkpoint: {trained.last}" in str(trained)


def test_the_log_shows_losses_and_the_time_left(trained: TrainResult) -> None:
    log = next(trained.log_dir.glob("*.log")).read_text()
    line = next(line for line in log.splitlines() if "Iter(train) [1/2]" in line)
    for word in ("eta: 0:00:0", "loss:", "loss_cls:", "loss_bbox:", "lr: 5.0000e-03"):
        assert word in line


def test_the_work_dir_is_named_for_the_config(tmp_path: Path, write_tiny: Callable[..., Path]) -> None:
    config = write_tiny(tmp_path / "elsewhere")
    result = train(config, options=["train_cfg.max_iters=1", "default_hooks.checkpoint.save_last=False"])
    assert result.work_dir == tmp_path / "work_dirs" / "tiny"
    assert result.last is None
    assert "none was saved" in str(result)


def test_resume_continues_from_the_last_checkpoint_reading_weights_only(
    tiny: Path, trained: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    # EMA, history of the log, schedule and momentum are all in the file.
    settings = {"custom_hooks": [{"type": "EMAHook"}], "default_hooks.checkpoint.save_best": "coco/bbox_mAP"}
    train(tiny, options={**settings, "train_cfg.val_interval": 2}, work_dir="run")
    asked = []
    real = torch.load
    monkeypatch.setattr("torch.load", lambda *a, **k: asked.append(k["weights_only"]) or real(*a, **k))
    result = train(tiny, options={**settings, "train_cfg.max_iters": 4}, work_dir="run", resume=True)
    assert set(asked) == {True}
    first, last = load_weights("run/iter_2.pth"), load_weights(str(result.last))
    assert (first["meta"]["iter"], last["meta"]["iter"]) == (2, 4)
    assert last["message_hub"]["log_scalars"]["train/loss"].data[0].shape == (4,)
    assert last["ema_state_dict"]["steps"] == 4
    assert result.best == Path("run/best_coco_bbox_mAP_iter_2.pth").absolute()
    history = first["message_hub"]["log_scalars"]["train/loss"].data[0]
    assert (last["message_hub"]["log_scalars"]["train/loss"].data[0][:2] == history).all()


def test_resume_from_a_path_restores_the_optimizer(tiny: Path, trained: TrainResult) -> None:
    result = train(tiny, options=["train_cfg.max_iters=4"], work_dir="run", resume=str(trained.last))
    straight = train(tiny, options=["train_cfg.max_iters=4"], work_dir="straight")
    resumed, whole = load_weights(str(result.last)), load_weights(str(straight.last))
    # Neither shuffling nor augmentation: nothing depends on random numbers.
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, resumed["state_dict"][name]), name


def test_resume_without_a_checkpoint_starts_from_the_beginning(tiny: Path) -> None:
    result = train(tiny, options=["train_cfg.max_iters=1"], work_dir="new", resume="auto")
    assert load_weights(str(result.last))["meta"]["iter"] == 1


def test_mixed_precision_on_a_cpu_computes_in_bfloat16_and_keeps_float32_weights(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No map of 1x1, for which torch's bfloat16 convolution leaves part of the gradient unset.
    large = ["model.neck.num_outs=4", "model.bbox_head.anchor_generator.strides=[8,16,32,64]"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    results = [train(tiny, options=large, work_dir=name, amp=name == "amp") for name in ("exact", "amp")]
    exact, mixed = (load_weights(str(result.last))["state_dict"] for result in results)
    assert {weight.dtype for weight in mixed.values()} == {weight.dtype for weight in exact.values()}
    moved = max(float((exact[name] - mixed[name]).abs().max()) for name in exact)
    assert 0 < moved < 1e-2


def test_feature_maps_have_the_memory_format_of_the_config(
    tiny: Path, trained: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    forward = torch.nn.Conv2d.forward

    def noted(layer: torch.nn.Conv2d, inputs: Any) -> Any:
        out = forward(layer, inputs)
        seen.append(min(out.shape[1:]) == 1 or out.is_contiguous(memory_format=torch.channels_last))
        return out

    monkeypatch.setattr(torch.nn.Conv2d, "forward", noted)
    result = train(tiny, options=["memory_format=channels_last"], work_dir="laid")
    assert seen
    assert all(seen)
    laid, plain = (load_weights(str(one.last))["state_dict"] for one in (result, trained))
    for name, weight in plain.items():
        torch.testing.assert_close(weight, laid[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="memory_format is 'channels_last' or None, found 'channel_last'"):
        train(tiny, options=["memory_format=channel_last"], work_dir="wrong")


def test_mixed_precision_does_not_replace_a_wrapper_of_another_kind(tiny: Path) -> None:
    with pytest.raises(UserError, match="found 'ApexOptimWrapper'"):
        train(tiny, options=["optim_wrapper.type=ApexOptimWrapper"], amp=True)


def test_the_rate_scales_with_the_batch(tiny: Path, trained: TrainResult) -> None:
    scaled = train(tiny, work_dir="scaled", auto_scale_lr=True)  # batches of 2, a rate chosen for 4
    assert _rate(trained.last) == pytest.approx(0.01)
    assert _rate(scaled.last) == pytest.approx(0.005)


def test_scaling_needs_the_base_batch_size(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"needs auto_scale_lr=dict\(base_batch_size=N\)"):
        train(tiny, options=["auto_scale_lr.base_batch_size=None"], auto_scale_lr=True)


def test_fine_tuning_loads_the_weights_that_fit(tiny: Path, trained: TrainResult) -> None:
    options = [f"load_from={trained.last}", "model.bbox_head.num_classes=3", "optim_wrapper.optimizer.lr=0.0"]
    options += [f"{key}=None" for key in ("val_cfg", "val_dataloader", "val_evaluator")]
    result = train(tiny, options=options, work_dir="tuned")
    old, new = load_weights(str(trained.last))["state_dict"], load_weights(str(result.last))["state_dict"]
    changed = {name.rpartition(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"bbox_head.retina_cls"}


def test_a_checkpoint_of_another_model_is_not_fine_tuned(tiny: Path) -> None:
    torch.save({"state_dict": {"stem.weight": torch.zeros(1)}}, "other.pth")
    with pytest.raises(UserError, match="likely cause: the checkpoint is of another model"):
        train(tiny, options=["load_from=other.pth"])


def test_weights_alone_are_not_resumed(tiny: Path, trained: TrainResult) -> None:
    torch.save({"state_dict": load_weights(str(trained.last))["state_dict"]}, "weights.pth")
    with pytest.raises(
        UserError, match=r"no meta, message_hub, optimizer.*load_from=PATH instead of --resume"
    ):
        train(tiny, resume="weights.pth")


def test_a_config_object_is_left_as_it_was(tiny: Path) -> None:
    from ibkd_mm.apis import load_config

    config = load_config(tiny)
    before = config.to_dict()
    train(config, options=["train_cfg.max_iters=1"], work_dir="object")
    assert config.to_dict() == before
    shutil.rmtree("object")
