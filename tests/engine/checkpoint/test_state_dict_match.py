from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseTTAModel
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from ibkd_mm.engine import CheckpointGuard, load_matching_weights
from ibkd_mm.errors import UserError


class _Net(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, classes)


class _Tested(_Net):
    def test_step(self, data: Any) -> Any:
        return data


class _Augmented(BaseTTAModel):
    def merge_preds(self, data_samples_list: Any) -> Any:
        return data_samples_list


def _weights(classes: int = 2, prefix: str = "") -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return OrderedDict((prefix + name, value) for name, value in _Net(classes).state_dict().items())


def test_weights_that_fit_are_loaded() -> None:
    model, weights = _Net(), _weights()
    assert not load_matching_weights(model, weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_half_precision_is_widened_to_the_models() -> None:
    model, weights = (
        _Net(),
        {name: v.half() if v.is_floating_point() else v for name, v in _weights().items()},
    )
    assert not load_matching_weights(model, weights)
    assert model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, weights["head.weight"].float())


def test_the_wrapping_of_a_parallel_model_is_no_mismatch() -> None:
    assert not load_matching_weights(_Net(), _weights(prefix="module."))
    assert not load_matching_weights(_Augmented(module=_Tested()), _weights())


def test_counters_of_batch_norm_may_be_missing() -> None:
    weights = _weights()
    del weights["backbone.1.num_batches_tracked"]
    assert not load_matching_weights(_Net(), weights)


def test_a_prefix_is_recognised() -> None:
    mismatch = load_matching_weights(_Net(), _weights(prefix="student."))
    assert (mismatch.matched, len(mismatch.missing), len(mismatch.unexpected)) == (0, 8, 9)
    assert mismatch.likely_cause() == "the names in the file have an additional prefix, 'student.'"
    inner = load_matching_weights(nn.ModuleDict({"student": _Net()}), _weights())
    assert inner.likely_cause() == "the names in the file have no prefix 'student.'"


def test_a_prefix_is_recognised_beside_weights_that_are_there_besides() -> None:
    extra = {"ema.steps": torch.zeros(()), "teacher.head.bias": torch.zeros(2)}
    mismatch = load_matching_weights(_Net(), {**extra, **_weights(prefix="student.")})
    assert mismatch.likely_cause() == "the names in the file have an additional prefix, 'student.'"
    alike = load_matching_weights(_Net(), {"other.weight": torch.zeros(1), "other.head.bias": torch.zeros(2)})
    assert alike.likely_cause() == "the checkpoint is of another model than the config's"


def test_another_number_of_classes_is_recognised() -> None:
    mismatch = load_matching_weights(_Net(classes=3), _weights())
    assert mismatch.reshaped == ["head.weight", "head.bias"]
    assert mismatch.likely_cause() == "the same architecture with another number of classes or channels"


def test_a_mismatch_is_described_by_module_and_number() -> None:
    weights = _weights() | {f"neck.convs.{index}": torch.zeros(1) for index in range(30)}
    del weights["head.bias"]
    assert str(load_matching_weights(_Net(), weights)).splitlines() == [
        "  matched: 8",
        "  missing in the file: 1 (head.bias)",
        "  unexpected in the file: 30 (neck.convs x30)",
        "  likely cause: the checkpoint is of another model than the config's",
    ]


@pytest.mark.parametrize(
    ("purpose", "checkpoint", "message"),
    [
        ("test", {"state_dict": _weights(3)}, "does not fit the model of the config (_Net)"),
        ("load_from", {"state_dict": _weights(3)}, None),
        ("load_from", {"state_dict": _weights(prefix="x.")}, "have an additional prefix, 'x.'"),
        ("resume", {"state_dict": _weights(), "meta": {}}, "(no message_hub, optimizer)"),
        (
            "resume",
            {"state_dict": _weights(3), "meta": {}, "message_hub": {}, "optimizer": {}},
            "of another shape",
        ),
        ("resume", {"state_dict": _weights(), "meta": {}, "message_hub": {}, "optimizer": {}}, None),
    ],
)
def test_the_guard_is_as_strict_as_its_purpose(
    purpose: str, checkpoint: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    guard, runner = CheckpointGuard(purpose), SimpleNamespace(model=_Net(), work_dir=str(tmp_path))
    if message is None:
        guard.after_load_checkpoint(runner, checkpoint)
        return
    with pytest.raises(UserError) as error:
        guard.after_load_checkpoint(runner, checkpoint)
    assert message in str(error.value)


def test_fine_tuning_from_other_heads_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr("ibkd_mm.engine.hooks.checkpoint_guard.print_log", lambda text, *_: told.append(text))
    model, given = _Net(classes=3), _weights()
    given |= {f"neck.{index}.weight": torch.ones(1) for index in range(9)}
    before = model.head.weight.clone()
    checkpoint: dict[str, Any] = {"state_dict": given}
    CheckpointGuard("load_from").after_load_checkpoint(SimpleNamespace(model=model), checkpoint)
    assert told == [
        "Only a part of the checkpoint fits the model:\n  matched: 7\n  unexpected in the file: 9 (neck.0, "
        "neck.1, neck.2, ...)\n  of another shape: 2 (head.weight, head.bias)\n  likely cause: the "
        "checkpoint is of another model than the config's"
    ]
    _load_checkpoint_to_model(model, checkpoint)  # what mmengine does next, and finds nothing to tell
    assert capsys.readouterr().out == ""
    assert torch.equal(model.backbone[0].weight, given["backbone.0.weight"])
    assert torch.equal(model.head.weight, before)


def test_a_resumed_run_removes_no_file_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "best_bbox_epoch_3.pth").write_bytes(b"")
    (tmp_path / "other.pth").write_bytes(b"")
    best = {
        "best_ckpt": "/moved/from/best_bbox_epoch_3.pth",
        "best_ckpt_segm": str(tmp_path.parent),
        "best_ckpt_a": str(tmp_path / "other.pth"),
        "best_ckpt_b": "/home/me/best_segm_epoch_1.pth",
    }
    hub = {
        "runtime_info": {**best, "best_score": 0.5, "keep_ckpt_ids": [1, "../../mine", 2]},
        "resumed_keys": dict.fromkeys([*best, "best_score"], True),
    }
    checkpoint = {"state_dict": _weights(), "meta": {}, "message_hub": hub, "optimizer": {}}
    runner = SimpleNamespace(model=_Net(), work_dir=str(tmp_path))
    CheckpointGuard("resume").after_load_checkpoint(runner, checkpoint)
    own = str(tmp_path / "best_bbox_epoch_3.pth")
    assert hub["runtime_info"] == {"best_ckpt": own, "best_score": 0.5, "keep_ckpt_ids": [1, 2]}
    assert hub["resumed_keys"] == {"best_ckpt": True, "best_score": True}
