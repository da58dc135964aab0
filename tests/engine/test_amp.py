import pytest
import torch
from torch import nn

from ibkd_mm.engine import amp
from ibkd_mm.registry import OPTIM_WRAPPERS


def test_forward_is_bfloat16_and_the_step_float32() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    before = model.weight.detach().clone()
    wrapper = OPTIM_WRAPPERS.build(
        {"type": "ibkd_mm.CpuAmpOptimWrapper", "optimizer": torch.optim.SGD(model.parameters(), lr=0.5)}
    )
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().sum())
    # The gradient of the sum is 1 for each weight, so each falls by the rate.
    assert model.weight.dtype == torch.float32
    assert torch.allclose(model.weight, before - 0.5, atol=1e-6)


def test_another_dtype_can_be_asked_for() -> None:
    model = nn.Linear(1, 1)
    wrapper = OPTIM_WRAPPERS.build(
        {
            "type": "ibkd_mm.CpuAmpOptimWrapper",
            "optimizer": torch.optim.SGD(model.parameters(), lr=1.0),
            "dtype": "float16",
        }
    )
    assert wrapper.dtype == torch.float16
    with pytest.raises(AttributeError):
        OPTIM_WRAPPERS.build(
            {"type": "ibkd_mm.CpuAmpOptimWrapper", "optimizer": wrapper.optimizer, "dtype": "float17"}
        )


@pytest.mark.parametrize(
    ("abilities", "computes"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
)
def test_automatic_is_bfloat16_where_the_cpu_is_made_for_it(
    abilities: dict[str, bool], computes: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    said: list[str] = []
    monkeypatch.setattr(amp, "print_log", lambda text, _: said.append(text))
    model = nn.Linear(4, 1)
    wrapper = OPTIM_WRAPPERS.build(
        {
            "type": "ibkd_mm.CpuAmpOptimWrapper",
            "optimizer": torch.optim.SGD(model.parameters(), lr=1.0),
            "dtype": "auto",
        }
    )
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == computes
    assert len(said) == (computes == torch.float32)


def test_automatic_is_float32_where_torch_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    wrapper = {"type": "ibkd_mm.CpuAmpOptimWrapper", "optimizer": optimizer, "dtype": "auto"}
    assert OPTIM_WRAPPERS.build(wrapper).dtype == torch.float32
