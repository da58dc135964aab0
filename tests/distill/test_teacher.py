"""Where a teacher comes from, what it is given, and how far it runs."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models.detectors import Mask2Former
from torch import nn

from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher
from ibkd_mm.errors import UserError


@pytest.fixture
def checkpoint(tmp_path: Path, built: Callable, teacher_config: Callable) -> Path:
    torch.save({"state_dict": built(teacher_config(), seed=3).state_dict()}, tmp_path / "teacher.pth")
    return tmp_path / "teacher.pth"


def config_file(folder: Path, model: dict[str, Any], rest: str = "") -> Path:
    path = folder / "teacher.py"
    path.write_text(f"model = {model!r}\ndefault_scope = 'mmdet'\n{rest}")
    return path


def is_of(teacher: nn.Module, checkpoint: Path) -> bool:
    weights = torch.load(checkpoint)["state_dict"]
    own = teacher.state_dict()
    return set(own) == set(weights) and all(torch.equal(own[name], weights[name]) for name in own)


def test_a_teacher_is_built_from_a_configs_path_frozen_with_its_weights(
    tmp_path: Path, checkpoint: Path, teacher_config: Callable
) -> None:
    teacher = build_teacher(str(config_file(tmp_path, teacher_config())), str(checkpoint))
    assert isinstance(teacher, Mask2Former)
    assert is_of(teacher, checkpoint)
    assert not any(one.requires_grad for one in teacher.parameters())
    assert not any(module.training for module in teacher.modules())


def test_a_configs_own_checkpoint_is_taken_where_no_other_is_given(
    tmp_path: Path, checkpoint: Path, built: Callable, teacher_config: Callable
) -> None:
    config = config_file(tmp_path, teacher_config(), f"load_from = {str(checkpoint)!r}\n")
    assert is_of(build_teacher(str(config), None), checkpoint)
    other = tmp_path / "other.pth"
    torch.save({"state_dict": built(teacher_config(), seed=4).state_dict()}, other)
    given = build_teacher(str(config), str(other))
    assert is_of(given, other)
    assert not is_of(given, checkpoint)


def test_a_model_is_taken_as_it_is(built: Callable, teacher_config: Callable) -> None:
    model = built(teacher_config()).train()
    assert build_teacher(model, None) is model
    assert not model.training


def test_weights_that_the_checkpoint_brings_anyway_are_not_fetched(
    checkpoint: Path, teacher_config: Callable
) -> None:
    described = teacher_config()
    missing = {"type": "Pretrained", "checkpoint": "https://nowhere.invalid/weights.pth"}
    described.update(init_cfg=missing, type="mmdet.Mask2Former")
    described["backbone"] = {**described["backbone"], "init_cfg": missing, "type": "mmdet.MobileNetV2"}
    before = copy.deepcopy(described)
    teacher = build_teacher({**described, "_scope_": "mmdet"}, str(checkpoint))
    assert is_of(teacher, checkpoint)
    assert "nowhere.invalid" not in str([getattr(module, "init_cfg", None) for module in teacher.modules()])
    assert described == before


def test_a_checkpoint_of_another_model_is_refused(
    tmp_path: Path, checkpoint: Path, teacher_config: Callable
) -> None:
    described = teacher_config()
    described["panoptic_head"]["num_things_classes"] = 5
    described["panoptic_fusion_head"]["num_things_classes"] = 5
    described["panoptic_head"]["loss_cls"]["class_weight"] = [1.0] * 5 + [0.1]
    with pytest.raises(UserError) as error:
        build_teacher(str(config_file(tmp_path, described)), str(checkpoint))
    for words in (f"The teacher's checkpoint {checkpoint}", "Mask2Former", "another number of classes"):
        assert words in str(error.value)


def test_a_mistyped_config_names_the_nearest(tmp_path: Path, teacher_config: Callable) -> None:
    config_file(tmp_path, teacher_config())
    with pytest.raises(UserError, match=r"no config .*techer\.py\. Did you mean 'teacher\.py'\?"):
        build_teacher(str(tmp_path / "techer.py"), None)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UserError, match="a teacher that is an mmengine model, found L1Loss"):
        build_teacher({"type": "mmdet.L1Loss"}, None)


def test_the_teachers_forward_receives_the_renormalised_batch(
    distilled: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = distilled()
    seen: list[Any] = []
    model.teacher.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    data = batch()
    losses_of(model, data)
    (inputs,) = seen
    # of its own: no change of channels' order, this mean and deviation, zeros where there is no picture
    mean, std = torch.tensor([[100.0, 110.0, 120.0], [50.0, 60.0, 70.0]])[..., None, None]
    expected = torch.zeros(2, 3, 64, 64)
    for place, picture in zip(expected, data["inputs"], strict=True):
        place[:, :, : picture.shape[2]] = (picture.float() - mean) / std
    torch.testing.assert_close(inputs, expected, atol=1e-4, rtol=1e-4)
    own = model.teacher.data_preprocessor(copy.deepcopy(data), False)["inputs"]
    torch.testing.assert_close(inputs, own, atol=1e-4, rtol=1e-4)


def test_it_predicts_as_its_own_test_would(built: Callable, distilled: Callable, batch: Callable) -> None:
    model = distilled()
    data = model.data_preprocessor(batch(), False)
    found = model.frozen.predict(data["inputs"], data["data_samples"])
    expected = model.teacher.test_step(batch())
    assert [len(each.pred_instances) for each in found] == [40, 40]
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own.pred_instances.scores, other.pred_instances.scores)
        same = (own.pred_instances.masks == other.pred_instances.masks).float().mean()
        assert same > 0.999
        assert own.pred_instances.masks.shape[1:] == other.ori_shape


@pytest.mark.parametrize("loss", ["loss_cfb", "loss_instance"])
def test_it_runs_only_as_far_as_the_recorders_ask(
    distilled: Callable, batch: Callable, losses_of: Callable, loss: str
) -> None:
    model = distilled()
    head = model.teacher.panoptic_head
    called: list[str] = []
    for name in ("pixel_decoder", "transformer_decoder.layers.0", "transformer_decoder.layers.1"):
        head.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    for other in model.distiller.factors:
        model.distiller.factors[other] = float(other == loss)
    losses = losses_of(model, batch())
    assert {name.split(".")[1] for name in losses if name.startswith("distill")} == {
        "loss_cfb" if loss == "loss_cfb" else "instance"
    }
    layers = ["transformer_decoder.layers.0", "transformer_decoder.layers.1"]
    assert called == ["pixel_decoder", *(layers if loss == "loss_instance" else [])]


def test_it_never_works_out_its_own_loss(
    distilled: Callable, batch: Callable, losses_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = distilled()
    called: list[str] = []
    for part in (model.teacher, model.teacher.panoptic_head):
        for name in ("loss", "loss_by_feat", "_get_targets_single"):
            monkeypatch.setattr(part, name, lambda *_, name=name: called.append(name), raising=False)
    ran: list[bool] = []
    model.teacher.register_forward_hook(lambda *_: ran.append(torch.is_grad_enabled()))
    losses = losses_of(model, batch())
    assert ran == [False]
    assert not called
    assert not [name for name in losses if "teacher" in name]


def test_what_the_pictures_must_divide_by_is_told() -> None:
    student, teacher = (nn.Module() for _ in range(2))
    student.pad_size_divisor, teacher.pad_size_divisor = 32, 48  # type: ignore[assignment]
    teacher.data_preprocessor = teacher
    with pytest.raises(UserError, match=r"multiples of 48.*multiples of 32\..*pad_size_divisor=48"):
        FrozenTeacher(teacher, student)  # type: ignore[arg-type]
