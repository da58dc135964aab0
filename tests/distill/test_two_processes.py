"""Two processes distil as one does with the pictures of both."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ibkd_mm.distill import FrozenTeacherDistill

_fork = get_context("fork")
PICTURES = 4
CASES: dict[str, dict[str, float]] = {
    "all": {},
    "feature loss at 0": {"loss_cfb": 0.0, "loss_attention": 0.0},
    "nothing of the teacher": dict.fromkeys(
        ("loss_cfb", "loss_attention", "loss_instance", "loss_auxiliary"), 0.0
    ),
}


@dataclass
class Worked:
    """Losses and gradients of each case, by name."""

    losses: dict[str, dict[str, Tensor]]
    gradients: dict[str, dict[str, Tensor]]


def work_out(model: nn.Module, inner: FrozenTeacherDistill, data: dict[str, Any]) -> Worked:
    worked = Worked({}, {})
    for case, factors in CASES.items():
        inner.distiller.factors.update(dict.fromkeys(inner.distiller.factors, 1.0) | factors)
        inner.zero_grad()
        losses = model(**data, mode="loss")
        inner.parse_losses(losses)[0].backward()
        worked.losses[case] = {
            name: value.detach().clone() for name, value in losses.items() if "loss" in name
        }
        named = inner.named_parameters()
        worked.gradients[case] = {name: one.grad.clone() for name, one in named if one.grad is not None}
    model(**data, mode="loss")  # in the next step DistributedDataParallel tells what the last left out
    return worked


def work_on_half(rank: int, model: FrozenTeacherDistill, data: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half = {name: value[rank * PICTURES // 2 :][: PICTURES // 2] for name, value in data.items()}
    parallel = MMDistributedDataParallel(model, find_unused_parameters=False, broadcast_buffers=False)
    torch.save(work_out(parallel, model, half), folder / f"{rank}.pth")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def worked(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Worked, list[Worked]]:
    """What one process works out, and what two do."""
    folder = tmp_path_factory.mktemp("processes")
    model, data = request.getfixturevalue("ready")
    started = [_fork.Process(target=work_on_half, args=(rank, model, data, folder)) for rank in (0, 1)]
    for process in started:
        process.start()
    one = work_out(model, model, data)
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    return one, [torch.load(folder / f"{rank}.pth", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def ready(
    built: Callable, teacher_config: Callable, student_config: Callable, recipe: Callable, batch: Callable
) -> tuple[FrozenTeacherDistill, dict[str, Any]]:
    """A distillation whose norms keep to their statistics, so that nothing else sees the whole batch."""
    described = {"architecture": student_config(), "distiller": recipe(whole=True)}
    model = built(
        {"type": "ibkd_mm.FrozenTeacherDistill", **described, "teacher": built(teacher_config(), seed=1)}
    )
    data = model.data_preprocessor(batch(PICTURES), True)
    norms = [module for module in model.train().modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    model(**data, mode="loss")
    for norm in norms:
        norm.eval()
    return model, data


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_losses_of_one_with_the_whole_batch(
    worked: tuple[Worked, list[Worked]], case: str
) -> None:
    one, two = worked[0].losses[case], [each.losses[case] for each in worked[1]]
    assert {float(each.pop("distill.loss_idle")) for each in two} == {0.0}  # of several processes alone
    distilled = {name for name in one if name.startswith("distill.")}
    assert len(distilled) == {"all": 9, "feature loss at 0": 7, "nothing of the teacher": 0}[case]
    assert all(one[name] > 0 for name in distilled)
    assert set(one) == set(two[0]) == set(two[1])
    for name, expected in one.items():
        torch.testing.assert_close(
            (two[0][name] + two[1][name]) / 2, expected, rtol=1e-4, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(
    worked: tuple[Worked, list[Worked]], case: str
) -> None:
    one, two = worked[0].gradients[case], [each.gradients[case] for each in worked[1]]
    assert len(one) > 350
    for name, expected in one.items():
        for gradients in two:
            difference = (gradients[name] - expected).norm() / (expected.norm() + 1e-3)
            assert difference < 1e-3, (name, float(difference))


@pytest.mark.parametrize("case", CASES)
def test_what_a_case_does_not_use_has_no_gradient_and_is_waited_for(
    worked: tuple[Worked, list[Worked]], case: str
) -> None:
    """The buckets of DistributedDataParallel are whole without a search for what was not used."""
    one, two = worked[0].gradients[case], [each.gradients[case] for each in worked[1]]
    idle = set(two[0]) - set(one)
    parts = {
        "all": set(),
        "feature loss at 0": {"bridge"},
        "nothing of the teacher": {"bridge", "back", "focus"},
    }
    assert {name.split(".")[3] for name in idle} == parts[case]
    assert all((gradients[name] == 0).all() for gradients in two for name in idle)
