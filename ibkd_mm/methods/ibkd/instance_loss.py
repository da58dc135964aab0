"""What a teacher's instances teach a student that finds them at anchors."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.matching import match
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.box_loss import complete_iou
from ibkd_mm.yolov10.mask_loss import CroppedMaskLoss, binary_entropy
from ibkd_mm.yolov10.structures import BranchStep

_LEAST, _MOST = 1e-4, 1 - 1e-4


@MODELS.register_module()
class InstanceDistillLoss(nn.Module):
    """Soft classes, soft masks and boxes of the teacher's instances, for both branches of a YOLOv10.

    Teacher and truth are matched by the IoU of masks; an anchor that the assigner gave to an instance then
    learns, at a temperature, what the teacher says of that instance. Classes and masks are compared by the
    divergence of each score and each pixel, zero where student and teacher agree.

    Args:
        class_weight: gain of the classes; targets are what the assigner asks of the anchor, times the
            teacher's probabilities.
        mask_weight: gain of the masks, inside the true boxes.
        box_weight: gain of the boxes (1 - complete IoU) to those of the teacher's masks.
        temperature: what logits of both are divided by; losses are multiplied by its square.
        match_iou: IoU of masks that makes a match.
        weighting: how pictures are weighed, such as `dict(type='ContextWeights')`; None for all alike.
        max_cells: see `CroppedMaskLoss`.
        loss_weight: gain of all.
    """

    def __init__(
        self,
        *,
        class_weight: float = 0.5,
        mask_weight: float = 7.5,
        box_weight: float = 0.0,
        temperature: float = 3.0,
        match_iou: float = 0.5,
        weighting: Mapping[str, Any] | None = None,
        max_cells: int = 2**24,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"InstanceDistillLoss expects a temperature above 0, found {temperature}.")
        self.class_weight, self.mask_weight, self.box_weight = class_weight, mask_weight, box_weight
        self.temperature, self.match_iou, self.loss_weight = temperature, match_iou, loss_weight
        self.weighting = None if weighting is None else MODELS.build(dict(weighting))
        self.mask_loss = CroppedMaskLoss(loss_weight=1.0, max_cells=max_cells, divergence=True)

    def forward(
        self, one_to_many: BranchStep, one_to_one: BranchStep, teacher: TeacherInstances
    ) -> dict[str, Tensor]:
        """Compare.

        Args:
            one_to_many: what the student's branch of the name worked out in this step.
            one_to_one: the other's.
            teacher: the instances that the teacher saw.
        """
        logits = one_to_many.outputs.class_logits
        with torch.autocast(logits.device.type, enabled=False):
            _check_masks(one_to_many)
            teacher.check_classes(logits.shape[1])
            matches = match(teacher, one_to_many.truth, len(logits), self.match_iou)
            weights = self._weights(one_to_many, teacher, matches.teacher_of)
            shares = self._shares(teacher, one_to_many)
            parts = [
                self._branch(step, teacher, shares, matches.teacher_of, weights)
                for step in (one_to_many, one_to_one)
            ]
        losses = {name: self.loss_weight * (parts[0][name] + parts[1][name]) for name in parts[0]}
        found = matches.teacher_of >= 0
        return {**losses, "matched": found.float().sum() / max(len(found), 1), **_spread(weights)}

    def _weights(self, step: BranchStep, teacher: TeacherInstances, teacher_of: Tensor) -> Tensor:
        """Weigh the pictures, (B,); trust in one is the mean score of what was found of its instances."""
        batch = len(step.outputs.class_logits)
        if self.weighting is None:
            return teacher.scores.new_ones(batch)
        found = teacher_of >= 0
        image, scores = step.truth.image[found], teacher.scores[teacher_of[found]]
        total = scores.new_zeros(batch).index_add(0, image, scores)
        counts = torch.bincount(image, minlength=batch)
        return self.weighting(step.truth, total / counts.clamp(min=1), counts)

    def _shares(self, teacher: TeacherInstances, step: BranchStep) -> Tensor:
        """Soften the teacher's masks on the grid of the prototypes, which both branches have."""
        assert step.outputs.prototypes is not None
        return (teacher.on_grid(step.outputs.prototypes.shape[2:]) / self.temperature).sigmoid()

    def _branch(
        self,
        step: BranchStep,
        teacher: TeacherInstances,
        shares: Tensor,
        teacher_of: Tensor,
        weights: Tensor,
    ) -> dict[str, Tensor]:
        image, anchor, instance, score = step.assignment
        sums = reduce_mean(torch.stack([score.sum(), score.new_tensor(len(score))]))
        scores, positives = sums.clamp(min=1 / get_world_size())
        seen = (teacher_of[instance] >= 0).nonzero().squeeze(1)
        image, anchor, instance, score = image[seen], anchor[seen], instance[seen], score[seen]
        own, weight = teacher_of[instance], weights[image]
        losses = {}
        if self.class_weight:
            wanted = score[:, None] * teacher.probabilities[own]
            logits = step.outputs.class_logits[image, :, anchor]
            each = self._soft(logits, wanted.clamp(_LEAST, _MOST).logit()).sum(1)
            losses["loss_cls"] = self.class_weight * (each * weight).sum() / scores
        if self.mask_weight:
            losses["loss_mask"] = self.mask_weight * self._masks(step, shares, seen, own, weight, positives)
        if self.box_weight:
            apart = 1 - complete_iou(step.boxes[image, anchor], teacher.boxes[own])
            losses["loss_bbox"] = self.box_weight * (apart * weight * score).sum() / scores
        return losses

    def _soft(self, logits: Tensor, target: Tensor) -> Tensor:
        """Divergence of scores from wanted ones, elementwise; both are logits."""
        heat = self.temperature
        wanted = (target / heat).sigmoid()
        crossed = F.binary_cross_entropy_with_logits(logits / heat, wanted, reduction="none")
        return heat**2 * (crossed - binary_entropy(wanted))

    def _masks(
        self,
        step: BranchStep,
        shares: Tensor,
        seen: Tensor,
        own: Tensor,
        weight: Tensor,
        positives: Tensor,
    ) -> Tensor:
        """Compare masks inside the true boxes; a coefficient divided by the temperature divides the logit."""
        outputs, truth, heat = step.outputs, step.truth, self.temperature
        assert outputs.coefficients is not None
        assert outputs.prototypes is not None
        image, anchor, instance = (column[seen] for column in step.assignment[:3])
        return heat**2 * self.mask_loss(
            outputs.coefficients[image, :, anchor] / heat,
            outputs.prototypes,
            image,
            truth.boxes[instance],
            shares,
            own,
            stride=truth.mask_stride,
            normaliser=positives,
            weight=weight,
        )


def _spread(weights: Tensor) -> dict[str, Tensor]:
    return {"least_weight": weights.min(), "most_weight": weights.max()}


def _check_masks(step: BranchStep) -> None:
    if step.truth.masks is None:
        raise UserError(
            "InstanceDistillLoss finds the teacher's instances again by their masks, and the student has "
            "boxes alone. Set the student's bbox_head.mask, or distil features alone."
        )
