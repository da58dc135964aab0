"""Which instance of the teacher is which of the ground truth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.yolov10.groups import rank_within
from ibkd_mm.yolov10.structures import GroundTruth


@dataclass(frozen=True)
class Matches:
    """Pairs of a teacher's instance and a true one; nobody is in two."""

    teacher_of: Tensor
    """(T,): index of the teacher's instance for each true one, -1 where it has none."""
    truth_of: Tensor
    """(K,): the other way round."""


@torch.no_grad()
def match(teacher: TeacherInstances, truth: GroundTruth, batch: int, least: float) -> Matches:
    """Pair the instances whose masks overlap most, the best first, by the IoU of their masks.

    Above an IoU of a half that is the pairing of least cost wherever true masks do not overlap, and needs no
    Hungarian algorithm.

    Args:
        teacher: K instances.
        truth: T instances, with masks.
        batch: number of images.
        least: IoU that a pair must have.
    """
    seen, real, iou = overlapping(teacher, truth, batch, least)
    teacher_of = torch.full_like(truth.image, -1)
    truth_of = torch.full_like(teacher.image, -1)
    while len(iou):
        chosen = (rank_within(seen, iou) == 0) & (rank_within(real, iou) == 0)
        teacher_of[real[chosen]] = seen[chosen]
        truth_of[seen[chosen]] = real[chosen]
        free = (teacher_of[real] < 0) & (truth_of[seen] < 0)
        seen, real, iou = seen[free], real[free], iou[free]
    return Matches(teacher_of, truth_of)


def overlapping(
    teacher: TeacherInstances, truth: GroundTruth, batch: int, least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """List the pairs of an image that overlap enough, with their IoU; one product of matrices an image."""
    assert truth.masks is not None
    sides: list[tuple[Tensor, ...]] = []
    seen_masks = teacher.on_grid(truth.masks.shape[1:]) > 0
    for image, masks in ((teacher.image, seen_masks), (truth.image, truth.masks)):
        sizes = torch.bincount(image, minlength=batch).tolist()
        sides += [torch.arange(len(image), device=image.device).split(sizes), masks.flatten(1).split(sizes)]
    found = []
    for seen, masks, real, real_masks in zip(*sides, strict=True):
        iou = _iou(masks.float(), real_masks.float() / truth.mask_stride**2)
        row, column = (iou >= least).nonzero(as_tuple=True)
        found.append((seen[row], real[column], iou[row, column]))
    seen, real, iou = (torch.cat(column) for column in zip(*found, strict=True))
    return seen, real, iou


def _iou(masks: Tensor, others: Tensor) -> Tensor:
    """IoU of shares of cells, (K, cells), (T, cells) -> (K, T)."""
    both = masks @ others.T
    return both / (masks.sum(1, keepdim=True) + others.sum(1) - both).clamp(min=1e-6)
