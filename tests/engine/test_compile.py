"""`compile` in a config compiles the network alone, of a distillation the student's."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ibkd_mm.engine import runner
from ibkd_mm.engine.runner import compile_network
from ibkd_mm.errors import UserError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.backbone(x)))


class Distilled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.architecture = Net()


def compiled(model: nn.Module) -> set[str]:
    return {name for name, part in model.named_modules() if part._compiled_call_impl is not None}


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (Net(), {"backbone", "neck"}),
        (Distilled(), {"architecture.backbone", "architecture.neck"}),
    ],
)
def test_backbone_and_neck_are_compiled_once_and_keep_their_names(model: nn.Module, parts: set[str]) -> None:
    names = list(model.state_dict())
    compile_network(model, {"backend": "eager"})
    assert compiled(model) == parts
    first = [part._compiled_call_impl for part in model.modules()]
    compile_network(model, {"backend": "eager"})
    assert [part._compiled_call_impl for part in model.modules()] == first
    assert list(model.state_dict()) == names


def test_it_computes_the_same() -> None:
    model, x = Net(), torch.rand(4, 2)
    expected = model(x)
    compile_network(model, {"backend": "eager"})
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("settings", [None, False])
def test_without_the_setting_nothing_is(settings: Any) -> None:
    model = Net()
    compile_network(model, settings)
    assert compiled(model) == set()


def test_settings_that_are_empty_are_those_of_torch() -> None:
    model = Net()
    compile_network(model, {})
    assert compiled(model) == {"backbone", "neck"}


def test_a_model_without_backbone_and_a_word_for_settings_are_refused() -> None:
    with pytest.raises(UserError, match="compile is for models with a backbone, Linear has none"):
        compile_network(nn.Linear(1, 1), True)
    with pytest.raises(UserError, match=r"compile is True or settings of torch\.compile, found 'yes'"):
        compile_network(Net(), "yes")


def test_the_runner_does_so_before_every_kind_of_step() -> None:
    model = Net()
    stand_in: Any = SimpleNamespace(model=model, cfg={"compile": {"backend": "eager"}})
    runner.ResumableRunner._maybe_compile(stand_in, "train_step")
    assert compiled(model) == {"backbone", "neck"}
