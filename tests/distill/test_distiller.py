"""What leads nowhere is refused by its config's name, what is trained is trained, what counts is counted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from ibkd_mm.distill import BridgedFeatureLoss
from ibkd_mm.errors import UserError

PARTS = {"bridge": 16, "back": 12, "focus": 6}
"""Parameters of each part: of a level, two of a convolution and two of a norm, or two of a gate."""


def refused(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **named)
    return str(error.value)


@pytest.mark.parametrize(
    ("side", "recorder", "source", "nearest"),
    [
        ("student_recorders", "prototypes", "bbox_head.prototypes.refnie", "bbox_head.prototypes.refine"),
        (
            "student_recorders",
            "one_to_many",
            "bbox_head.criteria.one_to_may",
            "bbox_head.criteria.one_to_many",
        ),
        ("teacher_recorders", "pixel_decoder", "panoptic_head.pixel_decode", "panoptic_head.pixel_decoder"),
    ],
)
def test_a_mistyped_module_path_names_the_nearest_real_one(
    distilled: Callable, recipe: Callable, side: str, recorder: str, source: str, nearest: str
) -> None:
    distiller = recipe()
    distiller[side][recorder]["source"] = source
    model = "YOLOv10" if side == "student_recorders" else "Mask2Former"
    text = refused(distilled, distiller=distiller)
    assert text == f"distiller.{side}.{recorder}: {model} has no '{source}'. Did you mean '{nearest}'?"


def test_a_mistyped_name_is_refused_where_the_distillation_is_built(
    distilled: Callable, recipe: Callable
) -> None:
    distiller = recipe()
    distiller["loss_forward_mappings"]["loss_cfb"]["teacher"]["connector"] = "instnces"
    text = refused(distilled, distiller=distiller)
    assert "loss_forward_mappings.loss_cfb.teacher" in text
    assert "mean 'instances'?" in text
    distiller = recipe()
    distiller["distill_losses"]["cfb"] = distiller["distill_losses"].pop("loss_cfb")
    assert "loss_cfb" in refused(distilled, distiller=distiller)
    distiller = recipe()
    distiller["loss_forward_mappings"]["loss_cfb"]["techer"] = distiller["loss_forward_mappings"]["loss_cfb"][
        "teacher"
    ]
    assert "takes student, teacher; found student, teacher, techer" in refused(distilled, distiller=distiller)


def test_levels_that_were_not_recorded_are_refused_where_the_distillation_is_built(
    distilled: Callable, recipe: Callable
) -> None:
    distiller = recipe()
    distiller["distill_losses"]["loss_cfb"]["teacher_levels"] = [3, 2, 1, 4]
    assert "teacher_levels=[3, 2, 1, 4]" in refused(distilled, distiller=distiller)
    distiller["distill_losses"]["loss_cfb"]["teacher_levels"] = [3, 2, 1]
    assert "found 4 and 3" in refused(distilled, distiller=distiller)


def test_a_bridge_between_what_losses_alone_record_is_refused_where_the_distillation_is_built(
    distilled: Callable, recipe: Callable
) -> None:
    """It would be made in the first step, when the optimizer has been built without it."""
    distiller = recipe(whole=True)
    source = {"type": "ModuleOutputs", "source": "bbox_head.one_to_many.class_towers.0"}
    distiller["student_recorders"]["late"] = source
    late = {"recorder": ["late"], "from_student": True}
    distiller["loss_forward_mappings"]["loss_cfb"]["student"] = late
    assert "distiller.distill_losses.loss_cfb" in refused(distilled, distiller=distiller)


def test_a_teacher_of_other_classes_is_refused(
    distilled: Callable, student_config: Callable, batch: Callable, losses_of: Callable
) -> None:
    described = student_config()
    described["bbox_head"]["num_classes"] = 5
    model = distilled(architecture=described)
    text = refused(losses_of, model, batch())
    assert "The student has 5 classes and its teacher 8" in text
    assert "bbox_head.num_classes" in text


def test_every_parameter_of_bridges_is_in_the_optimizer_and_moves_after_one_step(
    distilled: Callable, recipe: Callable, batch: Callable
) -> None:
    model = distilled(distiller=recipe(whole=True)).train()
    parts = model.distiller.distill_losses["loss_cfb"]
    assert {name: len(list(getattr(parts, name).parameters())) for name in PARTS} == PARTS
    assert len(list(model.distiller.parameters())) == sum(PARTS.values())
    wrapper = build_optim_wrapper(
        model, {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.0}}
    )
    trained = {id(one) for group in wrapper.optimizer.param_groups for one in group["params"]}
    before = {name: one.detach().clone() for name, one in parts.named_parameters()}
    assert len(before) == sum(PARTS.values())
    model.train_step(batch(), wrapper)
    for name, one in parts.named_parameters():
        assert id(one) in trained, name
        moved = (one - before[name]).abs()
        # by Adam's rule what has a gradient goes as far as the learning rate; of scale and shift of a norm
        # only what rounds is left, where channels are standardised behind it
        assert (moved > 5e-4).float().mean() > 0.9 if one.ndim == 4 else moved.any(), name


def test_a_connector_is_called_once_for_all_that_ask_the_same_of_it(
    distilled: Callable, recipe: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = distilled(distiller=recipe(whole=True))
    called: list[str] = []
    for name, connector in [
        *model.distiller.connectors.items(),
        *model.distiller.distill_losses["loss_cfb"].named_children(),
    ]:
        connector.register_forward_hook(lambda *_, name=name: called.append(name))
    for _ in range(2):
        called.clear()
        losses_of(model, batch())
        assert sorted(called) == [
            "attention",
            "auxiliary",
            "back",
            "bridge",
            "focus",
            "instances",
            *["loss"] * 4,
        ]


def test_losses_are_scaled_by_their_factors_and_left_out_at_zero(
    distilled: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = distilled().eval()
    whole = losses_of(model, batch())
    model.distiller.factors.update(loss_cfb=0.25)
    scaled = losses_of(model, batch())
    torch.testing.assert_close(scaled["distill.loss_cfb"], whole["distill.loss_cfb"] / 4)
    torch.testing.assert_close(scaled["distill.instance.loss_cls"], whole["distill.instance.loss_cls"])
    model.distiller.factors.update(loss_cfb=0.0)
    assert set(whole) - set(losses_of(model, batch())) == {"distill.loss_cfb"}


def test_what_is_only_logged_is_neither_scaled_nor_trained_by(
    distilled: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = distilled().eval()
    whole = losses_of(model, batch())
    model.distiller.factors.update(loss_instance=0.5)
    scaled = losses_of(model, batch())
    for name in ("matched", "min_image_weight", "max_image_weight"):
        assert torch.equal(scaled[f"distill.instance.{name}"], whole[f"distill.instance.{name}"])
        assert not whole[f"distill.instance.{name}"].requires_grad
    torch.testing.assert_close(scaled["distill.instance.loss_mask"], whole["distill.instance.loss_mask"] / 2)


def test_a_loss_that_anneals_inside_knows_its_factor(
    distilled: Callable, recipe: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = distilled(distiller=recipe(whole=True))
    model.distiller.factors.update(loss_auxiliary=0.3)
    losses_of(model, batch())
    assert model.distiller.distill_losses["loss_cfb"].auxiliary.factor == 0.3


def test_it_is_active_while_any_loss_counts(distilled: Callable, recipe: Callable) -> None:
    distiller = recipe()
    distiller["distill_losses"]["loss_cfb"]["loss_weight"] = 0.0
    made = distilled(distiller=distiller).distiller
    assert made.active
    made.factors.update(loss_instance=0.0)
    assert not made.active
    made.factors.update(loss_instance=0.1, loss_cfb=0.0)
    assert made.active


def test_no_record_is_kept_between_steps(distilled: Callable, batch: Callable, losses_of: Callable) -> None:
    model = distilled()

    def kept() -> list[Any]:
        sides = model.distiller.student_recorders, model.distiller.teacher_recorders
        return [one for side in sides for recorder in side.recorders.values() for one in recorder.data_buffer]

    assert kept() == []  # of the blank picture
    losses_of(model, batch())
    assert kept() == []
    assert not model.distiller.reader._connected


def test_another_loss_of_maps_is_one_line(
    distilled: Callable, recipe: Callable, batch: Callable, losses_of: Callable
) -> None:
    distiller = recipe()
    distiller["distill_losses"]["loss_cfb"]["loss"] = {"type": "mmrazor.ChannelWiseDivergence", "tau": 2.0}
    model = distilled(distiller=distiller)
    inside = model.distiller.distill_losses["loss_cfb"]
    assert isinstance(inside, BridgedFeatureLoss)
    seen: list[tuple[Tensor, Tensor]] = []
    inside.loss.register_forward_pre_hook(lambda _, given: seen.append(given))
    found = losses_of(model, batch())["distill.loss_cfb"]
    assert len(seen) == 4
    torch.testing.assert_close(
        found, 24 * torch.stack([_divergence(*pair, heat=2.0) for pair in seen]).mean()
    )


def _divergence(student: Tensor, teacher: Tensor, heat: float) -> Tensor:
    """Kullback and Leibler's divergence of each channel's distribution over places."""
    own, other = ((each.flatten(2) / heat).log_softmax(2) for each in (student, teacher))
    return heat**2 * (other.exp() * (other - own)).sum(2).mean()
