"""The head's pass on mixed maps: the branch's own losses, and no trace of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd import AuxiliaryHeadLoss
from ibkd_mm.yolov10 import BranchStep


class Scene:
    """A student in training, its maps of two pictures, others of the same shapes, and a step on the own."""

    def __init__(self, model: nn.Module, data: dict[str, Any]) -> None:
        self.model, self.head = model.train(), model.bbox_head
        given = model.data_preprocessor(data, True)
        maps = model.extract_feat(given["inputs"])
        self.maps = [each.detach() for each in maps]
        self.fused = [torch.randn_like(each) for each in maps]
        self.step: BranchStep = self.head.steps(self.maps, given["data_samples"])["one_to_many"]

    def loss(self, factor: float = 1.0, **settings: float) -> dict[str, Tensor]:
        loss = AuxiliaryHeadLoss(**settings)
        loss.attach(self.model)
        loss.factor = factor
        return loss(self.maps, self.fused, self.step)

    def statistics(self) -> dict[str, Tensor]:
        buffers = self.model.named_buffers()
        return {name: one.clone() for name, one in buffers if "running" in name or "num_batches" in name}


@pytest.fixture
def scene(built: Callable, student_config: Callable, batch: Callable) -> Scene:
    return Scene(built(student_config()), batch())


def test_it_is_the_branchs_loss_on_its_own_maps_and_the_others(scene: Scene) -> None:
    found = scene.loss(share=0.25, loss_weight=3.0)
    mixed = [0.75 * own + 0.25 * other for own, other in zip(scene.maps, scene.fused, strict=True)]
    expected = scene.head.one_to_many_step(mixed, scene.step.truth).losses
    assert set(found) == {"loss_cls", "loss_bbox", "loss_dfl", "loss_mask"}
    torch.testing.assert_close(found, {name: 3 * value for name, value in expected.items()})


def test_the_share_falls_with_the_factor_to_the_branchs_own_loss(scene: Scene) -> None:
    whole, half, none = (scene.loss(factor, share=1.0, loss_weight=1.0) for factor in (1.0, 0.5, 0.0))
    torch.testing.assert_close(none, scene.step.losses)
    torch.testing.assert_close(half, scene.loss(share=0.5, loss_weight=1.0))
    assert not torch.allclose(whole["loss_cls"], none["loss_cls"])


def test_the_norms_statistics_are_left_untouched(scene: Scene) -> None:
    before = scene.statistics()
    assert any((value != 0).any() for name, value in before.items() if "running_mean" in name)
    for _ in range(2):
        scene.loss()
    after = scene.statistics()
    assert all(torch.equal(after[name], before[name]) for name in before)
    # whereas a pass of the branch itself would have left its trace
    scene.head.one_to_many_step(scene.fused, scene.step.truth)
    assert any(not torch.equal(value, before[name]) for name, value in scene.statistics().items())


def test_the_norms_keep_statistics_afterwards_even_where_the_pass_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(scene.head, "one_to_many_step", fail)
    with pytest.raises(ValueError):
        scene.loss()
    norms = [module for module in scene.head.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert all(norm.track_running_stats for norm in norms)


def test_head_own_maps_and_fused_ones_learn(scene: Scene) -> None:
    for each in (*scene.maps, *scene.fused):
        each.requires_grad_()
    sum(scene.loss().values()).backward()
    for each in (*scene.maps, *scene.fused, *scene.head.one_to_many.class_towers.parameters()):
        assert each.grad.abs().sum() > 0
    assert all(one.grad is None for one in scene.head.one_to_one.parameters())


def test_it_has_no_parameter_of_the_head(scene: Scene) -> None:
    loss = AuxiliaryHeadLoss()
    loss.attach(scene.model)
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_pictures_without_instances_give_a_finite_loss(scene: Scene) -> None:
    truth = scene.step.truth
    empty = type(truth)(
        image=truth.image[:0],
        boxes=truth.boxes[:0],
        labels=truth.labels[:0],
        masks=truth.masks[:0],
        mask_stride=truth.mask_stride,
    )
    outputs, boxes, assignment = scene.step.outputs, scene.step.boxes, scene.step.assignment
    scene.step = BranchStep(outputs, boxes, empty, assignment, {})
    found = scene.loss()
    assert all(value.isfinite() for value in found.values())
    assert found["loss_cls"] > 0
    assert found["loss_mask"] == found["loss_bbox"] == 0


@pytest.mark.parametrize("extreme", [0.0, 6e4, -6e4])
def test_maps_at_the_ends_of_half_precision_give_finite_losses_and_gradients(
    scene: Scene, extreme: float
) -> None:
    scene.fused = [torch.full_like(each, extreme).half().float().requires_grad_() for each in scene.fused]
    found = scene.loss()
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values())
    assert all(each.grad.isfinite().all() for each in scene.fused)


def test_another_detectors_head_is_refused() -> None:
    other = nn.Module()
    other.bbox_head = nn.Linear(1, 1)
    with pytest.raises(UserError, match="found Linear"):
        AuxiliaryHeadLoss().attach(other)
