"""Who is paired with whom: as by the Hungarian algorithm, and nobody twice."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ibkd_mm.methods.ibkd.matching import match
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.yolov10 import GroundTruth

STRIDE, SIDE = 4, 6


def sign(cells: Tensor) -> Tensor:
    """Logits of masks of cells."""
    return cells.float() * 6 - 3


def overlap(one: Tensor, other: Tensor) -> float:
    return ((one & other).sum() / (one | other).sum().clamp(min=1)).item()


def draw(seed: int, batch: int, noise: float) -> tuple[list[int], list[Tensor], list[int], list[Tensor]]:
    """True masks that share no cell, and a teacher's that are some of them, spoilt, in any order."""
    generator = torch.Generator().manual_seed(seed)
    real_image, real, seen_image, spoilt = [], [], [], []
    for image in range(batch):
        owner = torch.randint(0, 5, (SIDE, SIDE), generator=generator)
        parts = [owner == one for one in range(int(torch.randint(0, 5, (1,), generator=generator)))]
        real += parts
        real_image += [image] * len(parts)
        for one in torch.randint(
            0, 5, (int(torch.randint(0, 7, (1,), generator=generator)),), generator=generator
        ):
            spoilt.append((owner == one) ^ (torch.rand(SIDE, SIDE, generator=generator) < noise))
            seen_image.append(image)
    return real_image, real, seen_image, spoilt


def stacked(masks: list[Tensor]) -> Tensor:
    return torch.stack(masks) if masks else torch.zeros(0, SIDE, SIDE, dtype=torch.bool)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 0.05, 0.15]))
def test_above_a_half_it_equals_the_hungarian_algorithm(
    truth: Callable[..., GroundTruth],
    seen: Callable[..., TeacherInstances],
    seed: int,
    batch: int,
    noise: float,
) -> None:
    real_image, real, seen_image, masks = draw(seed, batch, noise)
    teacher_of, _ = match(
        seen(seen_image, sign(stacked(masks))), truth(real_image, stacked(real)), batch, 0.51
    )
    gain = torch.zeros(len(real), len(masks))
    for t, mask in enumerate(real):
        for k, other in enumerate(masks):
            iou = overlap(mask, other) if real_image[t] == seen_image[k] else 0.0
            gain[t, k] = iou if iou >= 0.51 else 0.0
    rows, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    best = gain.new_zeros(len(real))
    best[torch.tensor(rows, dtype=torch.long)] = gain[rows, columns]
    has = teacher_of >= 0
    mine = gain.new_zeros(len(real))
    mine[has] = gain[has.nonzero()[:, 0], teacher_of[has]]
    assert torch.equal(has, best > 0)
    torch.testing.assert_close(mine, best)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.1, 0.3, 0.5]))
def test_nobody_is_paired_twice_nor_across_pictures_whatever_overlap_is_enough(
    truth: Callable[..., GroundTruth],
    seen: Callable[..., TeacherInstances],
    seed: int,
    batch: int,
    least: float,
) -> None:
    real_image, real, seen_image, masks = draw(seed, batch, 0.3)
    teacher_of, truth_of = match(
        seen(seen_image, sign(stacked(masks))), truth(real_image, stacked(real)), batch, least
    )
    pairs = [(t, k) for t, k in enumerate(teacher_of.tolist()) if k >= 0]
    assert sorted(pairs) == sorted((t, k) for k, t in enumerate(truth_of.tolist()) if t >= 0)
    assert len({k for _, k in pairs}) == len(pairs)
    assert all(real_image[t] == seen_image[k] for t, k in pairs)
    assert all(overlap(real[t], masks[k]) >= least - 1e-6 for t, k in pairs)
    # nor are two left alone that would do
    alone = [
        (t, k)
        for t in range(len(real))
        for k in range(len(masks))
        if real_image[t] == seen_image[k] and teacher_of[t] < 0 and truth_of[k] < 0
    ]
    assert all(overlap(real[t], masks[k]) < least + 1e-6 for t, k in alone)


def test_whose_best_is_taken_gets_the_next_best(
    truth: Callable[..., GroundTruth], seen: Callable[..., TeacherInstances]
) -> None:
    """Rows of 10 and 8 cells; the teacher's are of 10 and 9: both are nearest to the first."""
    row = torch.arange(10)
    real = torch.stack([row < 10, row < 8])[:, None]
    teacher_of, truth_of = match(
        seen([0, 0], sign(torch.stack([row < 9, row < 10])[:, None])), truth([0, 0], real), 1, 0.5
    )
    assert teacher_of.tolist() == [1, 0]
    assert truth_of.tolist() == [1, 0]


def test_shares_of_cells_count_and_a_finer_grid_is_reduced(
    seen: Callable[..., TeacherInstances],
) -> None:
    """8 of 16 pixels in each of four cells: an IoU of a half with the mask of all of them, and no more."""
    boxes, label = torch.tensor([[0.0, 0, 8, 8]]), torch.zeros(1).long()
    half = GroundTruth(torch.zeros(1).long(), boxes, label, torch.full((1, 2, 2), 8).byte(), STRIDE)
    teacher = seen([0], torch.full((1, 4, 4), 2.0))
    assert match(teacher, half, 1, 0.5)[0].tolist() == [0]
    assert match(teacher, half, 1, 0.501)[0].tolist() == [-1]


@pytest.mark.parametrize(
    ("real_image", "seen_image", "teacher_of", "truth_of"),
    [
        ([], [], [], []),
        ([0, 2], [], [-1, -1], []),
        ([], [0, 1], [], [-1, -1]),
        ([0], [2], [-1], [-1]),
        ([1, 2], [0, 2, 2], [-1, 1], [-1, 1, -1]),
    ],
)
def test_pictures_without_either_pair_nobody(
    truth: Callable[..., GroundTruth],
    seen: Callable[..., TeacherInstances],
    real_image: list[int],
    seen_image: list[int],
    teacher_of: list[int],
    truth_of: list[int],
) -> None:
    cells = torch.ones(3, 2, 2)
    found = match(
        seen(seen_image, sign(cells[: len(seen_image)])), truth(real_image, cells[: len(real_image)]), 3, 0.5
    )
    assert [each.tolist() for each in found] == [teacher_of, truth_of]


def test_empty_masks_of_both_are_no_pair(
    truth: Callable[..., GroundTruth], seen: Callable[..., TeacherInstances]
) -> None:
    nothing = torch.zeros(1, 2, 2)
    assert match(seen([0], sign(nothing)), truth([0], nothing), 1, 0.5)[0].tolist() == [-1]
