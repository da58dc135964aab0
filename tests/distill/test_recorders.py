"""Recorders of paths that are not there, and forwards that end with the last record."""

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from ibkd_mm.distill.recorders import StopForward, check_sources, stop_when_recorded
from ibkd_mm.errors import UserError


class Counted(nn.Identity):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + 1


def model(**parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


@pytest.fixture
def detector() -> nn.Module:
    stages = model(layer1=nn.Conv2d(3, 3, 1), layer2=nn.Conv2d(3, 3, 1))
    return model(backbone=stages, neck=model(lateral_convs=nn.Linear(1, 1)), bbox_head=nn.Identity())


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("backbone.layr2", "Did you mean 'backbone.layer2'?"),
        ("nekc", "Did you mean 'neck'?"),
        ("neck.lateral_conv", "Did you mean 'neck.lateral_convs'?"),
        ("backbone.stage_four", "backbone has layer1, layer2."),
        ("backbone.layer1.batch_norm.activation", "backbone.layer1 has no parts."),
        ("transformer.decoder", "It has backbone, bbox_head, neck."),
    ],
)
@pytest.mark.parametrize("kind", ["ModuleOutputs", "ModuleInputs", "mmrazor.ModuleOutputs"])
def test_a_mistyped_module_path_is_refused_with_the_nearest_real_one(
    detector: nn.Module, kind: str, source: str, hint: str
) -> None:
    with pytest.raises(UserError) as error:
        check_sources({"feats": {"type": kind, "source": source}}, detector, "teacher_recorders")
    expected = f"distiller.teacher_recorders.feats: Sequential has no '{source}'. {hint}"
    assert str(error.value) == expected


def test_a_mistyped_parameter_is_refused_with_the_nearest_real_one(detector: nn.Module) -> None:
    recorder = {"type": "Parameter", "source": "backbone.layer1.wieght"}
    with pytest.raises(UserError, match=r"student_recorders\.w: .*mean 'backbone\.layer1\.weight'\?"):
        check_sources({"w": recorder}, detector, "student_recorders")


def test_paths_that_are_there_pass_and_functions_are_no_paths(detector: nn.Module) -> None:
    recorders = {
        "outputs": {"type": "ModuleOutputs", "source": "backbone.layer2"},
        "inputs": {"type": "mmrazor.ModuleInputs", "source": "neck"},
        "parameter": {"type": "Parameter", "source": "backbone.layer1.weight"},
        "function": {"type": "FunctionOutputs", "source": "torch.nn.functional.relu"},
    }
    check_sources(recorders, detector, "student_recorders")


def prepared(parts: nn.Module, wanted: dict[str, int], **recorders: str | dict[str, Any]) -> RecorderManager:
    """Attach recorders, given by their sources, to a model whose forward then ends with the last."""
    named = {
        name: {"type": "ModuleOutputs", "source": source} if isinstance(source, str) else source
        for name, source in recorders.items()
    }
    with DefaultScope.overwrite_default_scope("mmrazor"):
        manager = RecorderManager(named)
    manager.initialize(parts)
    stop_when_recorded(manager, lambda: wanted, parts)
    return manager


@pytest.fixture
def chain() -> nn.Sequential:
    return model(first=Counted(), second=Counted(), third=Counted())


def test_the_forward_ends_with_the_last_record_that_is_wanted(chain: nn.Sequential) -> None:
    manager = prepared(chain, {"a": 1, "b": 1}, a="first", b="second")
    with manager, pytest.raises(StopForward):
        chain(torch.zeros(1))
    assert [part.calls for part in chain] == [1, 1, 0]
    assert manager.get_recorder("a").data_buffer == [torch.ones(1)]
    assert manager.get_recorder("b").data_buffer == [torch.full((1,), 2.0)]


def test_it_ends_so_in_every_step(chain: nn.Sequential) -> None:
    manager = prepared(chain, {"a": 1}, a="second")
    for step in range(3):
        with manager, pytest.raises(StopForward):
            chain(torch.full((1,), float(step)))
        assert manager.get_recorder("a").data_buffer == [torch.full((1,), step + 2.0)]
    assert [part.calls for part in chain] == [3, 3, 0]


def test_without_recording_the_forward_is_whole(chain: nn.Sequential) -> None:
    manager = prepared(chain, {"a": 1}, a="first")
    assert chain(torch.zeros(1)).item() == 3
    with manager, pytest.raises(StopForward):
        chain(torch.zeros(1))
    # what was recorded is still there, and nobody records
    assert chain(torch.zeros(1)).item() == 3
    assert [part.calls for part in chain] == [3, 2, 2]


def test_a_module_that_is_called_twice_ends_it_with_the_record_that_is_wanted() -> None:
    twice, behind = Counted(), Counted()
    parts = nn.Sequential(OrderedDict(one=twice, again=twice, last=behind))
    manager = prepared(parts, {"a": 2}, a="one")
    with manager, pytest.raises(StopForward):
        parts(torch.zeros(1))
    assert (twice.calls, behind.calls) == (2, 0)
    assert [record.item() for record in manager.get_recorder("a").data_buffer] == [1, 2]


def test_a_record_that_nobody_wants_is_not_waited_for(chain: nn.Sequential) -> None:
    manager = prepared(chain, {"a": 1}, a="first", unused="third")
    with manager, pytest.raises(StopForward):
        chain(torch.zeros(1))
    assert [part.calls for part in chain] == [1, 0, 0]


def test_inputs_of_a_module_are_recorded_before_it_ends(chain: nn.Sequential) -> None:
    manager = prepared(chain, {"a": 1}, a={"type": "ModuleInputs", "source": "second"})
    with manager, pytest.raises(StopForward):
        chain(torch.zeros(1))
    assert manager.get_recorder("a").data_buffer == [(torch.ones(1),)]


def test_what_is_wanted_may_change_from_step_to_step(chain: nn.Sequential) -> None:
    wanted = {"a": 1}
    manager = prepared(chain, wanted, a="first", b="second")
    with manager, pytest.raises(StopForward):
        chain(torch.zeros(1))
    wanted["b"] = 1
    with manager, pytest.raises(StopForward):
        chain(torch.zeros(1))
    assert [part.calls for part in chain] == [2, 1, 0]


def test_a_copy_of_the_model_ends_by_its_own_records(chain: nn.Sequential) -> None:
    manager = prepared(chain, {"a": 1}, a="first")
    copied, own = copy.deepcopy((chain, manager))
    with manager:
        assert copied(torch.zeros(1)).item() == 3
    with own, pytest.raises(StopForward):
        copied(torch.zeros(1))
    assert not manager.get_recorder("a").data_buffer


def test_where_nothing_is_wanted_nothing_ends_early(chain: nn.Sequential) -> None:
    manager = prepared(chain, {}, a="first")
    assert chain(torch.zeros(1)).item() == 3
    with manager:
        assert chain(torch.zeros(1)).item() == 3


@pytest.mark.parametrize(
    "other", [{"type": "Parameter", "source": "first.weight"}, ""], ids=["weight", "root"]
)
def test_what_may_be_recorded_at_any_time_ends_nothing_early(other: Any) -> None:
    parts = model(first=nn.Linear(1, 1), second=Counted())
    manager = prepared(parts, {"a": 1, "other": 1}, a="first", other=other)
    with manager:
        parts(torch.zeros(1, 1))
    assert parts.second.calls == 1
    assert len(manager.get_recorder("a").data_buffer) == len(manager.get_recorder("other").data_buffer) == 1
