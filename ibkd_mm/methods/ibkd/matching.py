"""Matching of the teacher's instances with the ground truth."""

import torch
from torch import Tensor

from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.yolov10.groups import rank_within
from ibkd_mm.yolov10.structures import GroundTruth


@torch.no_grad()
def match(teacher: TeacherInstances, truth: GroundTruth, batch: int, min_iou: float) -> tuple[Tensor, Tensor]:
    """Pair each of K instances of B images with at most one of T, the highest mask IoU first.

    Above an IoU of 0.5 that is the optimal assignment wherever ground truth masks do not overlap, without the
    Hungarian algorithm. Returns the index of the teacher's instance for each true one, (T,), and of the true
    one for each of the teacher's, (K,); -1 without a match.
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
    return teacher_of, truth_of


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
