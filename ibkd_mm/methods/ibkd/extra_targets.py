"""Confident instances of the teacher that nobody annotated, added to the ground truth."""

from collections.abc import Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.matching import find_overlaps
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.truth import collect_truth


@MODELS.register_module()
class ExtraTargets(nn.Module):
    """Adds the teacher's confident instances that overlap no ground truth instance to the ground truth.

    Args:
        score_thr: score that the teacher's instance must exceed.
        max_iou: mask IoU with a ground truth instance from which on it counts as that instance.
        stride: pixels along the side of a mask cell: the student's.
    """

    def __init__(self, score_thr: float = 0.5, max_iou: float = 0.3, stride: int = 4) -> None:
        super().__init__()
        self.score_thr, self.max_iou, self.stride = score_thr, max_iou, stride
        self._classes: int | None = None

    def attach(self, student: nn.Module) -> None:
        """Remember the student's number of classes."""
        self._classes = getattr(getattr(student, "bbox_head", None), "num_classes", None)

    @torch.no_grad()
    def forward(
        self, samples: Sequence[DetDataSample], teacher: TeacherInstances, size: tuple[int, int]
    ) -> list[DetDataSample]:
        """Return extended copies of samples with `mask_cells`; `size` is the input's height and width."""
        if not all("mask_cells" in sample.gt_instances for sample in samples):
            raise UserError("ExtraTargets expects MaskCells at the end of the train pipeline.")
        if self._classes is not None:
            teacher.check_classes(self._classes)
        grid = (-(-size[0] // self.stride), -(-size[1] // self.stride))
        device = teacher.image.device
        truth = collect_truth(samples, device, self.stride, grid)
        extra = teacher.scores > self.score_thr
        with torch.autocast(device.type, enabled=False):  # counts of cells exceed half precision
            extra[find_overlaps(teacher, truth, len(samples), self.max_iou)[0]] = False
            shares = teacher.on_grid(grid)[extra].float().sigmoid()
        found = InstanceData(
            bboxes=teacher.boxes[extra],
            labels=teacher.probabilities[extra].argmax(1),
            mask_cells=(shares * self.stride**2).round().to(torch.uint8),
        )
        image = teacher.image[extra]
        return [_extended(sample, found[image == index]) for index, sample in enumerate(samples)]


def _extended(sample: DetDataSample, extra: InstanceData) -> DetDataSample:
    if not len(extra):
        return sample
    own = sample.gt_instances
    height, width = own.mask_cells.shape[1:]
    extra.mask_cells = extra.mask_cells[:, :height, :width]
    extended = sample.new()
    extended.gt_instances = InstanceData(
        **{name: torch.cat([own[name].to(new), new]) for name, new in extra.items()}
    )
    return extended
