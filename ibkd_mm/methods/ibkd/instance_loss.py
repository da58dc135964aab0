"""Distillation of a teacher's instances into a student that predicts at anchors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.matching import match
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances, from_cached
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.box_loss import complete_iou
from ibkd_mm.yolov10.mask_loss import CroppedMaskLoss, binary_entropy
from ibkd_mm.yolov10.structures import BranchStep

_MIN_PROBABILITY, _MAX_PROBABILITY = 1e-4, 1 - 1e-4


@MODELS.register_module()
class InstanceDistillLoss(nn.Module):
    """Soft classes, soft masks and boxes of the teacher's instances, for both branches of a YOLOv10.

    Instances of teacher and ground truth are matched by the IoU of their masks. An anchor that the assigner
    gave to an instance then learns, at a temperature, what the teacher predicted for that instance. Classes
    and masks are compared by the KL divergence of each score and each mask cell: 0 where both agree.

    Args:
        class_weight: weight of the classes; the target is the assigned score of the anchor times the
            teacher's class probabilities.
        mask_weight: weight of the masks, inside the ground truth boxes.
        box_weight: weight of the boxes: 1 - complete IoU with the box of the teacher's mask.
        temperature: divides the logits of both; losses are multiplied by its square.
        match_iou: mask IoU from which on instances match.
        weighting: weights of the images, such as `dict(type='ContextWeights')`; None for equal weights.
        max_cells: see `CroppedMaskLoss`.
        cached_max_probability: probability of a mask cell that a cached, hard mask covers wholly.
        loss_weight: weight of all.
    """

    needs_class_order = True

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
        cached_max_probability: float = 0.999,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise UserError(f"InstanceDistillLoss expects a temperature above 0, found {temperature}.")
        self.class_weight, self.mask_weight, self.box_weight = class_weight, mask_weight, box_weight
        self.temperature, self.match_iou, self.loss_weight = temperature, match_iou, loss_weight
        self.cached_max_probability = cached_max_probability
        self.weighting = None if weighting is None else MODELS.build(dict(weighting))
        self.mask_loss = CroppedMaskLoss(loss_weight=1.0, max_cells=max_cells, divergence=True)

    def forward(
        self,
        one_to_many: BranchStep,
        one_to_one: BranchStep,
        teacher: TeacherInstances | Sequence[InstanceData],
    ) -> dict[str, Tensor]:
        """Compare both branches with the teacher's instances, or those of a cache, image by image."""
        logits = one_to_many.outputs.class_logits
        with torch.autocast(logits.device.type, enabled=False):
            if one_to_many.truth.masks is None:
                raise UserError(
                    "InstanceDistillLoss matches the teacher's instances by their masks, and the student has "
                    "boxes alone. Set the student's bbox_head.mask, or distil feature maps alone."
                )
            if not isinstance(teacher, TeacherInstances):
                teacher = from_cached(teacher, one_to_many, self.cached_max_probability)
            teacher.check_classes(logits.shape[1])
            teacher_of, _ = match(teacher, one_to_many.truth, len(logits), self.match_iou)
            weights = self._image_weights(one_to_many, teacher, teacher_of)
            prototypes: Any = one_to_many.outputs.prototypes  # both branches share them
            masks = (teacher.on_grid(prototypes.shape[2:]) / self.temperature).sigmoid()
            shared = teacher, masks, teacher_of, weights
            parts = [self._branch(step, *shared) for step in (one_to_many, one_to_one)]
        losses = {name: self.loss_weight * (parts[0][name] + parts[1][name]) for name in parts[0]}
        found = teacher_of >= 0
        return {
            **losses,
            "matched": found.float().sum() / max(len(found), 1),
            "min_image_weight": weights.min(),
            "max_image_weight": weights.max(),
        }

    def _image_weights(self, step: BranchStep, teacher: TeacherInstances, teacher_of: Tensor) -> Tensor:
        """Return the weights of the images, (B,); the trust in one is the mean score of its matches."""
        batch = len(step.outputs.class_logits)
        if self.weighting is None:
            return teacher.scores.new_ones(batch)
        found = teacher_of >= 0
        image, scores = step.truth.image[found], teacher.scores[teacher_of[found]]
        total = scores.new_zeros(batch).index_add(0, image, scores)
        counts = torch.bincount(image, minlength=batch)
        return self.weighting(step.truth, total / counts.clamp(min=1), counts)

    def _branch(
        self, step: BranchStep, teacher: TeacherInstances, masks: Tensor, teacher_of: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        outputs, truth, score = step.outputs, step.truth, step.assignment.score
        sums = reduce_mean(torch.stack([score.sum(), score.new_tensor(len(score))]))
        scores, positives = sums.clamp(min=1 / get_world_size())
        matched = (teacher_of[step.assignment.instance] >= 0).nonzero().squeeze(1)
        image, anchor, instance, score = (column[matched] for column in step.assignment)
        row, weight = teacher_of[instance], weights[image]
        losses = {}
        if self.class_weight:
            target = score[:, None] * teacher.probabilities[row]
            logits = outputs.class_logits[image, :, anchor]
            each = self._divergence(logits, target.clamp(_MIN_PROBABILITY, _MAX_PROBABILITY).logit()).sum(1)
            losses["loss_cls"] = self.class_weight * (each * weight).sum() / scores
        if self.mask_weight:
            assert outputs.coefficients is not None
            mask_loss = self.temperature**2 * self.mask_loss(
                outputs.coefficients[image, :, anchor] / self.temperature,  # which divides the logit
                outputs.prototypes,
                image,
                truth.boxes[instance],
                masks,
                row,
                stride=truth.mask_stride,
                normaliser=positives,
                weight=weight,
            )
            losses["loss_mask"] = self.mask_weight * mask_loss
        if self.box_weight:
            distance = 1 - complete_iou(step.boxes[image, anchor], teacher.boxes[row])
            losses["loss_bbox"] = self.box_weight * (distance * weight * score).sum() / scores
        return losses

    def _divergence(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the KL divergence of scores from target scores, elementwise; both are logits."""
        soft = (target / self.temperature).sigmoid()
        crossed = F.binary_cross_entropy_with_logits(logits / self.temperature, soft, reduction="none")
        return self.temperature**2 * (crossed - binary_entropy(soft))
