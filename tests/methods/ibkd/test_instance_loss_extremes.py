"""The loss of instances at the extremes of half precision, and where there are none."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ibkd_mm.methods.ibkd import InstanceDistillLoss, TeacherInstances
from ibkd_mm.yolov10 import BranchStep, GroundTruth, HeadOutputs

Make = Callable[..., BranchStep]
Truth = Callable[..., GroundTruth]
Seen = Callable[..., TeacherInstances]

CELLS = torch.zeros(3, 4, 4)
CELLS[0, :, :2] = CELLS[1, :, 2:] = CELLS[2, :2] = 1
SURE = CELLS[::2] * 7 - 3
"""What the teacher saw, of the first and the third."""
GIVEN = [(0, 0, 0.5), (3, 0, 1.0), (1, 1, 0.75), (2, 2, 0.25)]
"""Anchors, their instances and the scores asked of them."""


@pytest.mark.parametrize("high", [88.0, 6e4, -6e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extremes_of_half_precision_are_finite(
    step: Make, truth: Truth, seen: Seen, high: float, dtype: torch.dtype
) -> None:
    real = truth([0, 0, 1], CELLS)
    far = replace(
        seen([0, 1], SURE),
        mask_logits=(SURE.sign() * abs(high)).to(dtype),
        probabilities=torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype),
    )
    many, one = step(real, 2, GIVEN), step(real, 2, GIVEN)
    leaves = [leaf for each in (many, one) for leaf in each.outputs if leaf is not None]
    with torch.no_grad():
        for leaf in leaves:
            leaf.copy_((leaf.sign() * high).half().float())
    found = InstanceDistillLoss(box_weight=1.0)(many, one, far)
    losses = [value for name, value in found.items() if "loss" in name]
    assert len(losses) == 3
    assert all(value.isfinite() for value in losses)
    torch.stack(losses).sum().backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("weighting", [None, {"type": "ibkd_mm.ContextWeights"}])
@pytest.mark.parametrize(
    ("image", "seen_image"),
    [([], []), ([], [0, 1]), ([0, 1, 1], []), ([1, 1, 1], [0, 0])],
    ids=["neither", "no truth", "no teacher", "each in another picture"],
)
def test_without_instances_of_either_it_is_zero_with_a_gradient(
    step: Make, truth: Truth, seen: Seen, image: list[int], seen_image: list[int], weighting: dict | None
) -> None:
    real = truth(image, CELLS[: len(image)])
    teacher = seen(seen_image, SURE[: len(seen_image)])
    given = GIVEN if image else []
    many, one = step(real, 2, given), step(real, 2, given)
    found = InstanceDistillLoss(box_weight=1.0, weighting=weighting)(many, one, teacher)
    losses = [found[name] for name in ("loss_cls", "loss_mask", "loss_bbox")]
    assert [value.item() for value in losses] == [0.0] * 3
    assert found["matched"].item() == 0
    torch.stack(losses).sum().backward()
    for each in (many, one):
        leaves = each.outputs.class_logits, each.outputs.coefficients, each.outputs.prototypes, each.boxes
        assert all(leaf is not None and leaf.grad is not None and not leaf.grad.any() for leaf in leaves)


def test_a_picture_without_instances_changes_nothing(step: Make, truth: Truth, seen: Seen) -> None:
    """Two pictures, with and without an empty third."""
    real, teacher, loss = truth([0, 0, 1], CELLS), seen([0, 1], SURE), InstanceDistillLoss()
    many, none = step(real, 3, GIVEN), step(real, 3, [])
    fewer = HeadOutputs(*(None if part is None else part[:2] for part in many.outputs))
    found, expected = loss(many, none, teacher), loss(replace(many, outputs=fewer), none, teacher)
    assert found["loss_cls"].item() == expected["loss_cls"].item() > 0
    assert found["loss_mask"].item() == pytest.approx(expected["loss_mask"].item(), rel=1e-6)
