"""From what rode through the pipeline to instances."""

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.structures import BranchStep


@MODELS.register_module()
class CachedInstances(nn.Module):
    """The instances of a teacher's cache, with each cell's share of the mask as its probability.

    To be led `towards` a branch's step, whose masks say how far the pictures of a batch are padded.

    Args:
        stride: pixels of the input along the side of a cell.
        sureness: highest probability of a cell, where the whole of it is the mask's: masks in a cache are
            hard, and soft ones are one above their highest level.
    """

    def __init__(self, stride: int = 4, sureness: float = 0.999) -> None:
        super().__init__()
        self.stride, self.sureness = stride, sureness

    def forward(self, batch: Sequence[InstanceData], step: BranchStep) -> TeacherInstances:
        """Join the instances of B pictures, (K, h, w) as the true ones are."""
        if step.truth.masks is None:
            raise UserError("CachedInstances are masks; the student has boxes alone. Set bbox_head.mask.")
        counts = torch.tensor([len(one) for one in batch])
        cells = torch.cat([_padded(one.mask_cells, *step.truth.masks.shape[1:]) for one in batch])
        share = cells.float() / self.stride**2
        share = (share * self.sureness).clamp(min=1 - self.sureness)
        known = [one.probabilities for one in batch if len(one)]
        classes = step.outputs.class_logits.shape[1]
        return TeacherInstances(
            image=torch.arange(len(batch)).repeat_interleave(counts).to(cells.device),
            probabilities=torch.cat(known) if known else step.outputs.class_logits.new_zeros(0, classes),
            scores=torch.cat([one.scores for one in batch]),
            mask_logits=share.logit(),
            boxes=torch.cat([one.bboxes for one in batch]),
        )


def _padded(cells: Tensor, height: int, width: int) -> Tensor:
    return F.pad(cells, (0, width - cells.shape[2], 0, height - cells.shape[1]))
