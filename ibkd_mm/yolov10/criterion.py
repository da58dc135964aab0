"""Assignment and losses of one branch of the head."""

from typing import Any

import torch
from mmdet.utils import reduce_mean
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ibkd_mm.registry import MODELS, TASK_UTILS
from ibkd_mm.yolov10.assigner import ignored_anchors
from ibkd_mm.yolov10.distances import encode_distances
from ibkd_mm.yolov10.structures import Assignment, BranchStep, GroundTruth, HeadOutputs, Pairs


class BranchCriterion(nn.Module):
    """Assigns anchors to instances and compares their predictions with the ground truth.

    It is a module so that a recorder can record the step that it returns. `loss_dfl` is the loss of the
    distributions over distances; `loss_mask` is None for boxes only.
    """

    def __init__(
        self,
        *,
        assigner: dict[str, Any],
        loss_cls: dict[str, Any],
        loss_bbox: dict[str, Any],
        loss_dfl: dict[str, Any],
        loss_mask: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_dfl = MODELS.build(loss_dfl)
        self.loss_mask = None if loss_mask is None else MODELS.build(loss_mask)

    def forward(
        self, outputs: HeadOutputs, boxes: Tensor, anchors: Tensor, truth: GroundTruth, pairs: Pairs
    ) -> BranchStep:
        """Compute the assignment and the losses, in float32 whatever the network runs in.

        The (B, A, 4) boxes are decoded from the outputs; anchors are (A, 3), pairs the candidates.
        """
        with torch.autocast(boxes.device.type, enabled=False):
            outputs = outputs.float()
            assigned = self.assigner(outputs.class_logits.detach(), boxes.detach(), truth, pairs)
            losses = self._losses(outputs, boxes, anchors, truth, assigned)
        return BranchStep(outputs, boxes, truth, assigned, losses)

    def _losses(
        self, outputs: HeadOutputs, boxes: Tensor, anchors: Tensor, truth: GroundTruth, assigned: Assignment
    ) -> dict[str, Tensor]:
        image, anchor, instance, score = assigned
        targets, labels = truth.boxes[instance], truth.labels[instance]
        # means over processes, so that the mean of their gradients equals that of one process with all images
        sums = reduce_mean(torch.stack([score.sum(), score.new_tensor(len(score))]))
        scores, positives = sums.clamp(min=1 / get_world_size())
        logits = outputs.distance_logits[image, :, anchor].unflatten(1, (4, -1))
        distances = encode_distances(targets, anchors[anchor], logits.shape[-1])
        ignored = ignored_anchors(anchors[:, :2], truth.ignore_regions, assigned, len(boxes))
        losses = {
            "loss_cls": self.loss_cls(outputs.class_logits, assigned, labels, scores, ignored),
            "loss_bbox": self.loss_bbox(boxes[image, anchor], targets, score, scores),
            "loss_dfl": self.loss_dfl(
                logits.flatten(0, 1), distances.flatten(), score.repeat_interleave(4), avg_factor=4 * scores
            ),
        }
        if self.loss_mask is not None:
            assert outputs.coefficients is not None
            losses["loss_mask"] = self.loss_mask(
                outputs.coefficients[image, :, anchor],
                outputs.prototypes,
                image,
                targets,
                truth.masks,
                instance,
                stride=truth.mask_stride,
                normaliser=positives,
            )
        return losses
