"""The mask loss by hand, against plain loops, and in bounded memory."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ibkd_mm.registry import MODELS

STRIDE = 4


def build(max_cells: int = 2**20, **more: Any) -> nn.Module:
    settings = {"type": "ibkd_mm.CroppedMaskLoss", "loss_weight": 1.0, "max_cells": max_cells}
    return MODELS.build({**settings, **more})


def one(values: list[list[float]], box: list[float], counts: list[list[int]]) -> Tensor:
    """Loss of one mask whose logits are `values`."""
    return build()(
        torch.ones(1, 1),
        torch.tensor(values)[None, None],
        torch.zeros(1).long(),
        torch.tensor([box]),
        torch.tensor(counts, dtype=torch.uint8)[None],
        torch.zeros(1).long(),
        stride=STRIDE,
        normaliser=torch.tensor(1.0),
    )


def bce(logit: float, target: float) -> float:
    return math.log(1 + math.exp(logit)) - target * logit


LOGITS, COUNTS = [[1.0, -2.0], [0.5, 3.0]], [[16, 0], [8, 4]]
EACH = [bce(1.0, 1.0), bce(-2.0, 0.0), bce(0.5, 0.5), bce(3.0, 0.25)]
BY_HAND = [
    ([0.0, 0.0, 8.0, 8.0], [0.25] * 4),
    ([0.0, 0.0, 4.0, 4.0], [1.0, 0, 0, 0]),
    # half of the right column's width: its cells count half
    ([0.0, 0.0, 6.0, 8.0], [1 / 3, 1 / 6, 1 / 3, 1 / 6]),
    ([2.0, 4.0, 6.0, 8.0], [0, 0, 0.5, 0.5]),
    # one pixel: its cell alone, and as much as any
    ([5.0, 6.0, 6.0, 7.0], [0, 0, 0, 1.0]),
    # what lies outside of the image does not count
    ([-8.0, 0.0, 4.0, 4.0], [1.0, 0, 0, 0]),
]


@pytest.mark.parametrize(("box", "shares"), BY_HAND)
def test_values_by_hand(box: list[float], shares: list[float]) -> None:
    expected = sum(share * loss for share, loss in zip(shares, EACH, strict=True))
    assert one(LOGITS, box, COUNTS).item() == pytest.approx(expected, rel=1e-6)


def test_a_box_without_area_costs_nothing() -> None:
    assert one(LOGITS, [3.0, 3.0, 3.0, 3.0], COUNTS).item() == 0.0


def scene(images: list[int], size: int = 8, seed: int = 0) -> dict[str, Any]:
    """Positives of the given images, several of which find the same instance."""
    torch.manual_seed(seed)
    count, batch = len(images), 3
    corner = torch.rand(count, 2) * (size - 2) * STRIDE
    return {
        "coefficients": torch.randn(count, 5, dtype=torch.float64).requires_grad_(),
        "prototypes": torch.randn(batch, 5, size, size, dtype=torch.float64).requires_grad_(),
        "image": torch.tensor(images, dtype=torch.long),
        "boxes": torch.cat([corner, corner + 1 + torch.rand(count, 2) * size * STRIDE], dim=1).double(),
        "masks": torch.randint(0, 17, (4, size, size), dtype=torch.uint8),
        "rows": torch.randint(0, 4, (count,)),
        "stride": STRIDE,
        "normaliser": torch.tensor(7.0),
    }


def loops(parts: dict[str, Any]) -> Tensor:
    """One positive, one cell at a time."""
    total = parts["prototypes"].sum() * 0
    size = parts["prototypes"].shape[-1]
    for n, (x1, y1, x2, y2) in enumerate((parts["boxes"] / STRIDE).tolist()):
        mask = torch.einsum("p,phw->hw", parts["coefficients"][n], parts["prototypes"][parts["image"][n]])
        target = parts["masks"][parts["rows"][n]] / 16
        area, loss = 0.0, total * 0
        for row in range(size):
            for column in range(size):
                high = max(min(y2, row + 1) - max(y1, row), 0)
                wide = max(min(x2, column + 1) - max(x1, column), 0)
                cell = nn.functional.softplus(mask[row, column]) - target[row, column] * mask[row, column]
                loss, area = loss + high * wide * cell, area + high * wide
        total = total + loss / area
    return total / parts["normaliser"]


@pytest.mark.parametrize("images", [[0, 0, 1, 2, 2, 2, 2], [1], [2, 0, 2, 0]])
@pytest.mark.parametrize("max_cells", [2**20, 3 * 64 * 2, 1])
def test_equals_loops_and_so_does_its_gradient_in_chunks_or_whole(images: list[int], max_cells: int) -> None:
    parts = scene(images)
    leaves = parts["coefficients"], parts["prototypes"]
    found, expected = build(max_cells)(**parts), loops(parts)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    for mine, theirs in zip(
        torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        assert theirs.abs().max() > 0
        assert torch.allclose(mine, theirs, atol=1e-10)


@pytest.mark.parametrize("max_cells", [2**20, 1])
def test_positives_are_weighted_and_masks_may_be_fractions(max_cells: int) -> None:
    parts = scene([0, 2, 0])
    shares = {**parts, "masks": parts["masks"] / STRIDE**2}
    rows = ("coefficients", "image", "boxes", "rows")
    alone = [loops({**parts, **{key: parts[key][n : n + 1] for key in rows}}).item() for n in range(3)]
    found = build(max_cells)(**shares, weight=torch.tensor([0.5, 0.0, 3.0]).double())
    assert found.item() == pytest.approx(0.5 * alone[0] + 3 * alone[2], rel=1e-9)


def test_divergence_leaves_out_the_entropy_of_the_targets_and_is_zero_where_they_are_met() -> None:
    """Asked for 0, a quarter, a half and 1, with all at a half: ln 2 each, less the entropies of two."""
    shares = torch.tensor([0.0, 0.25, 0.5, 1.0]).double().reshape(1, 2, 2)
    parts = {**scene([0], size=2), "masks": shares, "rows": torch.tensor([0])}
    parts |= {"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "coefficients": torch.eye(1, 5).double()}
    of_logits = [torch.zeros(2, 2).double(), shares[0].logit().clamp(-40, 40)]
    outputs = [each.expand(3, 5, 2, 2).clone().requires_grad_() for each in of_logits]
    even, met = (build(divergence=True)(**{**parts, "prototypes": each}) for each in outputs)
    assert even.item() == pytest.approx((2 * math.log(2) + (math.log(2) - 0.5623351446)) / 4 / 7, rel=1e-8)
    assert met.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(met, outputs[1])[0].abs().max() < 1e-12


def test_gradcheck() -> None:
    parts = scene([0, 0, 2], size=4)
    inputs = parts.pop("coefficients"), parts.pop("prototypes")
    assert torch.autograd.gradcheck(lambda c, p: build(64)(coefficients=c, prototypes=p, **parts), inputs)


def test_no_positives_is_no_loss_and_no_gradient_but_a_defined_one() -> None:
    parts = scene([])
    loss = build()(**parts)
    loss.backward()
    assert loss.item() == 0.0
    assert parts["coefficients"].grad.shape == (0, 5)
    assert (parts["prototypes"].grad == 0).all()


@pytest.mark.parametrize("scale", [6e4, -6e4])
def test_extremes_of_half_precision_are_finite(scale: float) -> None:
    parts = scene([0, 1, 1])
    leaves = [
        parts[key].detach().float().mul(scale).requires_grad_() for key in ("coefficients", "prototypes")
    ]
    loss = build()(**{**parts, "coefficients": leaves[0], "prototypes": leaves[1]})
    loss.backward()
    assert loss.isfinite()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


class Largest(TorchDispatchMode):
    """Notes the most elements that any result of an operation has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("bounded", [True, False])
def test_five_hundred_instances_take_no_more_memory_than_is_allowed(bounded: bool) -> None:
    """Each as large as the image, with ten positives: 3 million cells, were all masks there at once."""
    size, positives = 24, 5000
    allowed = 3 * size * size * 50
    parts = scene([0] * positives, size)
    parts["boxes"] = torch.tensor([[0.0, 0.0, size * STRIDE, size * STRIDE]]).repeat(positives, 1)
    parts["masks"] = torch.zeros(500, size, size, dtype=torch.uint8)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    # what each positive has besides its mask, and the ground truth
    unavoidable = 3 * positives * size + parts["masks"].numel()
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = build(allowed if bounded else 2**30)(**parts)
        loss.backward()
    assert (largest.elements <= max(allowed, unavoidable)) is bounded
    assert (sum(kept.values()) <= 3 * unavoidable) is bounded
