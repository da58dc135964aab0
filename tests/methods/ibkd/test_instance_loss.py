"""The loss of instances: by hand, against an independent loop, zero where it should be, and its gradient."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd import InstanceDistillLoss, TeacherInstances
from ibkd_mm.yolov10 import BranchStep, GroundTruth, HeadOutputs
from ibkd_mm.yolov10.box_loss import complete_iou

Make = Callable[..., BranchStep]
Truth = Callable[..., GroundTruth]
Seen = Callable[..., TeacherInstances]

HEAT = 2.0
LEFT, RIGHT = [[1, 1, 0, 0]] * 4, [[0, 0, 1, 1]] * 4
"""Masks of 4 x 4 cells."""
CELLS = torch.tensor([LEFT, RIGHT, LEFT])
SURE = torch.tensor([LEFT, LEFT]).float() * 7 - 3.0
"""What the teacher saw of the first and the third; of the second it saw nothing."""
PROBABILITIES = [[0.8, 0.1], [0.3, 0.6]]
SCORES = [0.9, 0.5]
GIVEN = [(0, 0, 0.5), (3, 0, 1.0), (1, 1, 0.75), (2, 2, 0.25)]
"""Anchors, their instances and the scores asked of them."""


@pytest.fixture
def real(truth: Truth) -> GroundTruth:
    return truth([0, 0, 1], CELLS)


@pytest.fixture
def teacher(seen: Seen) -> TeacherInstances:
    return seen([0, 1], SURE, PROBABILITIES, SCORES)


def divergence(logit: float, wanted: float) -> float:
    """Of yes and no at the temperature, for a logit and a probability."""
    q, p = (1 / (1 + math.exp(-one / HEAT)) for one in (logit, math.log(wanted / (1 - wanted))))
    return HEAT**2 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


def by_loops(step: BranchStep, teacher: TeacherInstances, weights: list[float]) -> list[float]:
    """Loss of classes, masks and boxes of a branch, one positive after another, before their gains."""
    classes = masks = boxes = 0.0
    coefficients, prototypes = step.outputs.coefficients, step.outputs.prototypes
    assert coefficients is not None
    assert prototypes is not None
    for image, anchor, instance, score in zip(*(one.tolist() for one in step.assignment), strict=True):
        own = {0: 0, 2: 1}.get(instance)
        if own is None:
            continue
        for label, probability in enumerate(PROBABILITIES[own]):
            logit = step.outputs.class_logits[image, label, anchor].item()
            classes += weights[image] * divergence(logit, score * probability)
        mask = torch.einsum("p,phw->hw", coefficients[image, :, anchor], prototypes[image])
        inside = CELLS[instance].bool()  # its box is its mask
        pairs = zip(mask[inside].tolist(), SURE[own][inside].sigmoid().tolist(), strict=True)
        masks += weights[image] * sum(divergence(*pair) for pair in pairs) / int(inside.sum())
        apart = 1 - complete_iou(step.boxes[image, anchor], teacher.boxes[own])
        boxes += weights[image] * score * apart.item()
    scores, positives = max(step.assignment.score.sum().item(), 1.0), max(len(step.assignment.score), 1)
    return [classes / scores, masks / positives, boxes / scores]


@pytest.mark.parametrize("weighted", [False, True])
def test_both_branches_by_loops(
    step: Make, real: GroundTruth, teacher: TeacherInstances, weighted: bool
) -> None:
    weighting = {"type": "ibkd_mm.ContextWeights"} if weighted else None
    gains: dict[str, Any] = {"class_weight": 0.5, "mask_weight": 7.5, "box_weight": 2.0}
    loss = InstanceDistillLoss(**gains, temperature=HEAT, weighting=weighting, loss_weight=3.0)
    many, one = step(real, 2, GIVEN), step(real, 2, [(2, 0, 0.125), (0, 2, 0.25)])
    found = loss(many, one, teacher)
    weights = [1.0, 1.0]
    if loss.weighting is not None:  # the picture that is more complex, and of which the teacher is surer
        weights = loss.weighting(real, torch.tensor(SCORES), torch.tensor([1, 1])).tolist()
        assert weights[0] > 1 > weights[1] > 0
    parts = zip(
        by_loops(many, teacher, weights), by_loops(one, teacher, weights), gains.values(), strict=True
    )
    expected = [3.0 * gain * (a + b) for a, b, gain in parts]
    names = ["loss_cls", "loss_mask", "loss_bbox"]
    assert [found[name].item() for name in names] == pytest.approx(expected, rel=1e-4)
    assert [
        found[name].item() for name in ("matched", "min_image_weight", "max_image_weight")
    ] == pytest.approx([2 / 3, min(weights), max(weights)])


def test_classes_by_hand(step: Make, real: GroundTruth, seen: Seen) -> None:
    """Asked for 1 x (0.5, 0.2) at temperature 1, both answers a half: only the second is wrong.

    0.2 ln(0.2 / 0.5) + 0.8 ln(0.8 / 0.5) = 0.192745, times the gain.
    """
    teacher = seen([0], SURE[:1], [[0.5, 0.2]])
    many, none = step(real, 2, [(0, 0, 1.0)]), step(real, 2, [])
    with torch.no_grad():
        many.outputs.class_logits.zero_()
    found = InstanceDistillLoss(class_weight=0.5, mask_weight=0, temperature=1.0)(many, none, teacher)
    assert found["loss_cls"].item() == pytest.approx(0.5 * 0.192745, rel=1e-5)
    assert "loss_mask" not in found
    assert "loss_bbox" not in found


def test_certainty_is_softened_by_the_temperature_too(step: Make, real: GroundTruth, seen: Seen) -> None:
    many, none = step(real, 2, [(0, 0, 1.0)]), step(real, 2, [])
    with torch.no_grad():
        many.outputs.class_logits.zero_()
    loss = InstanceDistillLoss(class_weight=1.0, mask_weight=0, temperature=HEAT)
    found = loss(many, none, seen([0], SURE[:1], [[1.0, 0.0]]))
    expected = divergence(0.0, 1 - 1e-4) + divergence(0.0, 1e-4)
    assert found["loss_cls"].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("heat", [1.0, 3.0])
def test_zero_with_no_gradient_where_teacher_equals_student(
    step: Make, real: GroundTruth, teacher: TeacherInstances, heat: float
) -> None:
    given = [one for one in GIVEN if one[1] != 1]
    many, none = step(real, 2, given, channels=1), step(real, 2, [])
    assert many.outputs.coefficients is not None
    assert many.outputs.prototypes is not None
    with torch.no_grad():
        for image, anchor, instance, score in zip(*many.assignment, strict=True):
            own = 0 if instance == 0 else 1
            many.outputs.class_logits[image, :, anchor] = (score * teacher.probabilities[own]).logit()
        many.outputs.coefficients.fill_(1.0)
        many.outputs.prototypes.copy_(SURE[:, None])
    found = InstanceDistillLoss(temperature=heat)(many, none, teacher)
    leaves = many.outputs.class_logits, many.outputs.coefficients, many.outputs.prototypes
    assert found["loss_cls"].item() == pytest.approx(0, abs=1e-6)
    assert found["loss_mask"].item() == pytest.approx(0, abs=1e-5)
    gradients = torch.autograd.grad(found["loss_cls"] + found["loss_mask"], leaves)
    assert all(one.abs().max() < 1e-5 for one in gradients)


@pytest.mark.parametrize("max_cells", [2**24, 1])
def test_gradcheck(step: Make, real: GroundTruth, teacher: TeacherInstances, max_cells: int) -> None:
    wide = replace(
        teacher,
        **{name: getattr(teacher, name).double() for name in ("probabilities", "scores", "mask_logits")},
    )
    many, none = (step(real, 2, given, dtype=torch.double) for given in (GIVEN, []))
    weighting = {"type": "ibkd_mm.ContextWeights"}
    loss = InstanceDistillLoss(max_cells=max_cells, weighting=weighting)

    def total(logits: Tensor, coefficients: Tensor, prototypes: Tensor) -> Tensor:
        outputs = HeadOutputs(logits, many.outputs.distance_logits, coefficients, prototypes)
        found = loss(replace(many, outputs=outputs), none, wide)
        return found["loss_cls"] + found["loss_mask"]

    leaves = (many.outputs.class_logits, many.outputs.coefficients, many.outputs.prototypes)
    assert torch.autograd.gradcheck(total, leaves)


def test_what_cannot_be_compared_is_refused(step: Make, real: GroundTruth, teacher: TeacherInstances) -> None:
    many = step(real, 2, GIVEN)
    eighty = replace(teacher, probabilities=torch.zeros(2, 80))
    with pytest.raises(
        UserError, match=r"student has 2 classes and its teacher 80: .*bbox_head\.num_classes"
    ):
        InstanceDistillLoss()(many, many, eighty)
    boxes_alone = replace(many, truth=replace(real, masks=None))
    with pytest.raises(UserError, match=r"student's bbox_head\.mask"):
        InstanceDistillLoss()(boxes_alone, boxes_alone, teacher)
    with pytest.raises(UserError, match="temperature above 0, found 0"):
        InstanceDistillLoss(temperature=0)
