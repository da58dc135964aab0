"""Matching of the teacher's instances with the ground truth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.yolov10.groups import rank_within
from ibkd_mm.yolov10.structures import GroundTruth


@dataclass(frozen=True)
class Matches:
    """Pairs of a teacher's instance and a ground truth instance; none is in two pairs."""

    teacher_of: Tensor
    """(T,): index of the teacher's instance for each ground truth instance, -1 without a match."""
    truth_of: Tensor
    """(K,): index of the ground truth instance for each of the teacher's, -1 without a match."""


@torch.no_grad()
def match(teacher: TeacherInstances, truth: GroundTruth, batch: int, min_iou: float) -> Matches:
    """Pair the instances with the highest mask IoU, best first.

    Above an IoU of 0.5 that is the optimal assignment wherever ground truth masks do not overlap, without the
    Hungarian algorithm.

    Args:
        teacher: K instances.
        truth: T instances, with masks.
        batch: number of images.
        min_iou: IoU that a pair must have.
    """
    row, column, iou = find_overlaps(teacher, truth, batch, min_iou)
    teacher_of = torch.full_like(truth.image, -1)
    truth_of = torch.full_like(teacher.image, -1)
    while len(iou):
        chosen = (rank_within(row, iou) == 0) & (rank_within(column, iou) == 0)
        teacher_of[column[chosen]] = row[chosen]
        truth_of[row[chosen]] = column[chosen]
        free = (teacher_of[column] < 0) & (truth_of[row] < 0)
        row, column, iou = row[free], column[free], iou[free]
    return Matches(teacher_of, truth_of)


def find_overlaps(
    teacher: TeacherInstances, truth: GroundTruth, batch: int, min_iou: float
) -> tuple[Tensor, Tensor, Tensor]:
    """List an image's pairs that overlap enough: indices in teacher and truth, and IoU, (N,) each."""
    assert truth.masks is not None
    sides: list[tuple[Tensor, ...]] = []
    teacher_masks = teacher.on_grid(truth.masks.shape[1:]) > 0
    for image, masks in ((teacher.image, teacher_masks), (truth.image, truth.masks)):
        sizes = torch.bincount(image, minlength=batch).tolist()
        sides += [torch.arange(len(image), device=image.device).split(sizes), masks.flatten(1).split(sizes)]
    found = []
    for rows, masks, columns, truth_masks in zip(*sides, strict=True):
        iou = _iou(masks.float(), truth_masks.float() / truth.mask_stride**2)
        row, column = (iou >= min_iou).nonzero(as_tuple=True)
        found.append((rows[row], columns[column], iou[row, column]))
    row, column, iou = (torch.cat(parts) for parts in zip(*found, strict=True))
    return row, column, iou


def _iou(masks: Tensor, others: Tensor) -> Tensor:
    """IoU of shares of cells, (K, cells), (T, cells) -> (K, T)."""
    both = masks @ others.T
    return both / (masks.sum(1, keepdim=True) + others.sum(1) - both).clamp(min=1e-6)
