"""With online=False no teacher is built; what only it could give is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from torch.nn.functional import one_hot

from ibkd_mm.apis import load_config
from ibkd_mm.distill import FrozenTeacherDistill, teacher
from ibkd_mm.errors import UserError


def with_seen(batch: dict[str, Any]) -> dict[str, Any]:
    """Let the teacher have seen what is annotated; of the second picture nothing. The batch is padded."""
    for index, sample in enumerate(batch["data_samples"]):
        truth = sample.gt_instances if index != 1 else sample.gt_instances[:0]
        odds = one_hot(truth.labels, 8).float() * 0.9 if len(truth) else torch.zeros(0, 0)
        sample.teacher_instances = InstanceData(
            bboxes=truth.bboxes, mask_cells=truth.mask_cells, scores=odds.sum(1), probabilities=odds
        )
    return batch


@pytest.fixture
def described() -> dict[str, Any]:
    """The shipped config, of a teacher that is not on this machine."""
    config = load_config("ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_cached.py")
    return {**config.model.to_dict(), "teacher": "nowhere/teacher.py", "teacher_ckpt": "nowhere/teacher.pth"}


@pytest.fixture
def model(described: dict[str, Any], built: Callable) -> FrozenTeacherDistill:
    return built(described).train()


def test_no_teacher_is_built_whatever_its_config(model: FrozenTeacherDistill) -> None:
    assert isinstance(model.teacher, teacher.NullTeacher)
    assert not list(model.teacher.parameters())
    assert not list(model.distiller.parameters())


def test_a_step_learns_from_what_was_seen(
    model: FrozenTeacherDistill, batch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renormalise(*_: Any) -> None:
        raise AssertionError("nobody looks at it")

    monkeypatch.setattr(model.frozen, "renormalise", renormalise)
    wrapper = build_optim_wrapper(model, {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-3}})
    logged = model.train_step(with_seen(batch(4)), wrapper)
    found = {name: float(value) for name, value in logged.items() if name.startswith("distill.")}
    assert found["distill.instance.matched"] == pytest.approx(4 / 6)
    assert found["distill.instance.loss_cls"] > 0
    assert found["distill.instance.loss_mask"] > 0
    assert "distill.loss_cfb" not in found


def test_what_was_seen_changes_the_gradient(
    model: FrozenTeacherDistill, batch: Callable, losses_of: Callable
) -> None:
    gradients = []
    for factor in (1.0, 0.0):
        model.distiller.factors["loss_instance"] = factor
        model.zero_grad()
        losses = losses_of(model, with_seen(batch(4)))
        model.parse_losses(losses)[0].backward()
        gradients.append(model.architecture.backbone.stem.conv.weight.grad.clone())
    assert gradients[0].isfinite().all()
    assert not torch.equal(*gradients)


def test_losses_of_maps_that_count_are_refused(described: dict[str, Any], built: Callable) -> None:
    described["distiller"]["distill_losses"]["loss_cfb"]["loss_weight"] = 1.0
    with pytest.raises(UserError, match="online=False no teacher runs, but loss_cfb needs"):
        built(described)


def test_extra_targets_of_the_teachers_outputs_are_refused(
    described: dict[str, Any], built: Callable
) -> None:
    described["distiller"]["extra_targets"] = {
        "type": "ibkd_mm.ExtraTargets",
        "teacher": {"recorder": "whole", "from_student": False, "connector": "instances"},
    }
    with pytest.raises(UserError, match="no teacher runs, but extra_targets needs its records"):
        built(described)
