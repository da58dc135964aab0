from typing import Any

import pytest
import torch
from mmengine.config import Config

from ibkd_mm.config.command_options import enable_lr_scaling
from ibkd_mm.engine.amp import check_amp_device, enable_amp
from ibkd_mm.errors import UserError


@pytest.mark.parametrize(
    ("asked", "on_cpu", "on_gpu"),
    [
        ({"type": "OptimWrapper"}, "auto", None),
        ({"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": 512.0}, "auto", "float16"),
        ({"type": "ibkd_mm.CpuAmpOptimWrapper"}, "auto", None),
        ({"type": "ibkd_mm.CpuAmpOptimWrapper", "dtype": "auto"}, "auto", None),
        ({"type": "ibkd_mm.CpuAmpOptimWrapper", "dtype": "bfloat16"}, "bfloat16", None),
    ],
)
def test_amp_lets_the_cpu_decide_and_takes_half_precision_on_a_gpu(
    asked: dict[str, Any], on_cpu: str, on_gpu: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        config = Config({"optim_wrapper": {"optimizer": {"type": "SGD"}, **asked}})
        enable_amp(config)
        found = config.optim_wrapper
        kind = "AmpOptimWrapper" if there else "ibkd_mm.CpuAmpOptimWrapper"
        assert (found.type, found.get("dtype")) == (kind, on_gpu if there else on_cpu)
        assert found.get("loss_scale") == (asked.get("loss_scale", "dynamic") if there else None)


@pytest.mark.parametrize("name", ["AmpOptimWrapper", "mmengine.AmpOptimWrapper"])
def test_mmengines_mixed_precision_needs_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config({"optim_wrapper": {"type": name}})
    device = "cpu"
    monkeypatch.setattr("ibkd_mm.engine.amp.get_device", lambda: device)
    with pytest.raises(UserError, match="'AmpOptimWrapper' needs a GPU"):
        check_amp_device(config)
    device = "cuda"
    check_amp_device(config)
    device = "cpu"
    enable_amp(config)
    check_amp_device(config)


def test_the_learning_rate_scales_from_the_batch_size_that_the_config_states() -> None:
    config = Config({"auto_scale_lr": {"base_batch_size": 16}})
    enable_lr_scaling(config)
    assert config.auto_scale_lr.to_dict() == {"base_batch_size": 16, "enable": True}
    with pytest.raises(UserError, match=r"needs auto_scale_lr=dict\(base_batch_size=N\) in the config"):
        enable_lr_scaling(Config({}))
