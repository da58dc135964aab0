"""What is promised of a teacher: it is never changed, nowhere kept, and in nobody's way."""

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from ibkd_mm.distill import FrozenTeacherDistill
from ibkd_mm.engine import CpuAmpOptimWrapper, StudentEMAHook
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights
from ibkd_mm.engine.hooks.student_ema import trained_entries

ADAMW = {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.05}}


def contents(model: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer, those that no state dict has too, byte by byte."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: one.detach().numpy().tobytes() for name, one in named}


def places(tensors: Any) -> set[int]:
    """Where tensors lie in memory."""
    return {one.untyped_storage().data_ptr() for one in tensors if isinstance(one, Tensor) and one.numel()}


def of_teacher(model: FrozenTeacherDistill) -> set[int]:
    found = places([*model.teacher.parameters(), *model.teacher.buffers()])
    assert len(found) > 300
    return found


def calls(module: nn.Module) -> list[Any]:
    """Collect what a module is called with."""
    called: list[Any] = []
    module.register_forward_pre_hook(lambda _, given: called.append(given))
    return called


def detached(losses: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in losses.items()}


def test_the_teacher_is_byte_identical_after_training_steps(
    distilled: Callable, recipe: Callable, batch: Callable
) -> None:
    model = distilled(distiller=recipe(whole=True))
    before, student = contents(model.teacher), contents(model.architecture)
    wrapper = build_optim_wrapper(model, ADAMW)
    model.train()
    for step in range(2):
        model.train_step(batch(seed=step), wrapper)
    assert contents(model.teacher) == before
    assert all(one.grad is None and not one.requires_grad for one in model.teacher.parameters())
    after = contents(model.architecture)
    assert sum(after[name] != student[name] for name in after) > 600


def test_the_teacher_is_in_eval_mode_whole_after_train(distilled: Callable) -> None:
    model = distilled()
    assert model.train() is model
    assert all(module.training for module in model.architecture.modules())
    assert not any(module.training for module in model.teacher.modules())
    model.eval()
    assert not any(module.training for module in model.modules())


def test_no_teacher_tensor_is_in_parameters_buffers_state_dict_average_or_optimizer(
    distilled: Callable,
) -> None:
    model = distilled()
    teacher = of_teacher(model)
    # what DistributedDataParallel makes its buckets of, and broadcasts
    assert not teacher & places(model.parameters())
    assert not teacher & places(model.buffers())
    assert not teacher & places(model.state_dict(keep_vars=True).values())
    assert not teacher & places(trained_entries(model).values())
    wrapper = build_optim_wrapper(model, {**ADAMW, "paramwise_cfg": {"norm_decay_mult": 0.0}})
    grouped = [one for group in wrapper.optimizer.param_groups for one in group["params"]]
    assert not teacher & places(grouped)
    assert places(grouped) == places(one for one in model.parameters() if one.requires_grad)
    assert not set(model.modules()) & set(model.teacher.modules())


def test_the_average_is_of_the_plain_students_entries(
    distilled: Callable, built: Callable, student_config: Callable
) -> None:
    model, hook = distilled(), StudentEMAHook()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook.before_train(SimpleNamespace(model=model, optim_wrapper=OptimWrapper(optimizer), iter=0))
    checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
    hook.before_save_checkpoint(SimpleNamespace(), checkpoint)
    hook.close()
    plain = built(student_config())
    assert list(checkpoint["state_dict"]) == list(plain.state_dict())
    assert set(checkpoint["raw_state_dict"]) == set(trained_entries(plain))


def test_the_state_dict_is_the_plain_students_and_loads_strict_either_way(
    distilled: Callable, built: Callable, student_config: Callable
) -> None:
    model, plain = distilled(), built(student_config(), seed=5)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert model.state_dict()._metadata["backbone.stem.bn"] == {"version": 2}
    other = distilled(architecture=student_config())
    other.load_state_dict(plain.state_dict(), strict=True)
    assert not load_matching_weights(other, plain.state_dict())
    assert contents(other.architecture) == contents(plain) != contents(model.architecture)
    plain.load_state_dict(model.state_dict(), strict=True)
    assert contents(plain) == contents(model.architecture)


def test_what_does_not_fit_is_told_by_the_students_names(
    distilled: Callable, built: Callable, student_config: Callable
) -> None:
    described = student_config()
    described["bbox_head"]["num_classes"] = 3
    mismatch = load_matching_weights(distilled(), built(described).state_dict())
    assert "the same architecture with another number of classes" in str(mismatch)
    assert not mismatch.missing
    found = distilled().load_state_dict({"backbone.stme": torch.zeros(1)}, strict=False)
    assert found.unexpected_keys == ["backbone.stme"]
    assert "backbone.stem.conv.weight" in found.missing_keys


def test_what_is_trained_beside_the_student_is_given_and_taken_back(
    distilled: Callable, recipe: Callable
) -> None:
    model, other = distilled(distiller=recipe(whole=True)), distilled(distiller=recipe(whole=True))
    state = model.training_only_state()["distiller"]
    assert set(state) == {name for name, _ in model.distiller.named_parameters()}
    for one in other.distiller.parameters():
        nn.init.ones_(one)
    other.load_training_only_state({"distiller": state})
    assert contents(other.distiller) == contents(model.distiller)


def test_with_nothing_counting_losses_are_the_plain_students_and_the_teacher_does_not_run(
    distilled: Callable, built: Callable, student_config: Callable, recipe: Callable, batch: Callable
) -> None:
    plain = built(student_config())
    plain.init_weights()
    expected = plain(**plain.data_preprocessor(batch(), True), mode="loss")
    weightless = recipe()
    for loss in weightless["distill_losses"].values():
        loss["loss_weight"] = 0.0
    stopped = distilled()
    stopped.distiller.factors = dict.fromkeys(stopped.distiller.factors, 0.0)
    for model in (distilled(distiller=weightless), stopped):
        called = calls(model.teacher)
        model.init_weights()
        found = model(**model.data_preprocessor(batch(), True), mode="loss")
        assert not called
        assert detached(found) == {f"student.{name}": loss for name, loss in detached(expected).items()}


def test_the_student_is_initialised_as_if_it_were_alone(
    distilled: Callable, built: Callable, student_config: Callable, recipe: Callable
) -> None:
    drawn = {"type": "Normal", "layer": "Conv2d", "std": 0.01}
    distiller, found = {**recipe(), "init_cfg": drawn}, []
    for build in (lambda: built(student_config()), lambda: distilled(distiller=distiller)):
        model = build()
        after = [torch.rand(1)]  # what comes next is drawn alike, too
        model.init_weights()
        found.append([contents(getattr(model, "architecture", model)), *after, torch.rand(1)])
    assert found[0] == found[1]
    bridge = model.distiller.distill_losses["loss_cfb"].bridge.levels[2][0]
    assert bridge.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_students_own_loss_can_be_left_out(
    distilled: Callable, batch: Callable, losses_of: Callable
) -> None:
    names = set(losses_of(distilled(calculate_student_loss=False), batch()))
    assert "distill.instance.loss_cls" in names
    assert not [name for name in names if name.startswith("student.")]


def test_bfloat16_gives_finite_losses_and_gradients(
    distilled: Callable, recipe: Callable, batch: Callable
) -> None:
    model = distilled(distiller=recipe(whole=True))
    wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=1e-3))
    logged = model.train().train_step(batch(), wrapper)
    assert sum(name.startswith("distill.") and "loss" in name for name in logged) == 9
    assert all(value.isfinite().all() for value in logged.values())
    assert all(one.isfinite().all() for one in model.parameters())


def test_the_teacher_moves_along(distilled: Callable) -> None:
    model = distilled()
    assert {one.dtype for one in model.double().teacher.parameters()} == {torch.float64}
    assert model.teacher.backbone.conv1.bn.running_mean.dtype == torch.float64
    assert model.float().teacher.backbone.conv1.bn.running_mean.dtype == torch.float32
    assert {str(one.device) for one in model.to("meta").teacher.parameters()} == {"meta"}
    assert model.teacher.data_preprocessor.mean.is_meta


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_says_the_same_by_a_teacher_and_records_of_its_own(
    distilled: Callable, recipe: Callable, batch: Callable, losses_of: Callable, duplicate: Callable
) -> None:
    distiller = recipe()
    distiller["distill_losses"]["loss_instance"]["loss_weight"] = 0.0
    model = distilled(distiller=distiller).train()
    other = duplicate(model)
    assert not of_teacher(model) & of_teacher(other)
    layers = [calls(each.teacher.panoptic_head.transformer_decoder.layers[0]) for each in (model, other)]
    expected = losses_of(model, batch())
    for one in model.parameters():
        nn.init.zeros_(one)
    assert detached(losses_of(other, batch())) == detached(expected)
    assert layers == [[], []]


def test_a_compiled_backbone_gives_the_same_step(
    distilled: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = distilled().train()
    expected = detached(losses_of(copy.deepcopy(model), batch()))
    model.architecture.backbone.compile(backend="eager")
    found = losses_of(model, batch())
    torch.testing.assert_close(detached(found), expected)
    sum(value for name, value in found.items() if "loss" in name).backward()
    assert model.architecture.backbone.stem.conv.weight.grad.abs().sum() > 0


def test_what_is_deployed_of_a_distilled_student_has_the_published_size(
    distilled: Callable, recipe: Callable, student_config: Callable
) -> None:
    described, distiller = student_config(), recipe()
    described["bbox_head"]["num_classes"] = 80
    student = distilled(architecture=described, distiller=distiller).architecture
    assert sum(one.numel() for one in student.fuse().parameters()) == 2_551_680
