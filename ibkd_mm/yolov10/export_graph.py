"""What is exported: a fused student from pixels to instances, its post-processing included."""

from copy import deepcopy

import torch
from mmdet.models.detectors import SingleStageDetector
from torch import Tensor, nn

from ibkd_mm.yolov10.anchors import make_anchors
from ibkd_mm.yolov10.detections import detect

INPUT = "images"
OUTPUTS = ("boxes", "scores", "labels", "masks")

MOST_INSTANCES = 100
"""Instances of a picture unless told otherwise: as many as COCO's precision looks at of each class."""

OUTSIDE = -1e4
"""What is added to the logits of a mask outside of its box: shares there are zero, in half precision too."""


class DeployedStudent(nn.Module):
    """A student that takes pixels and gives instances; the detector that it is made from stays as it is.

    Pixels are RGB whatever the network was trained on: the order of channels and the standard deviation go
    into the first convolution, which changes no result. The mean would, where that convolution pads with
    zeros, so it is subtracted where it is not zero.

    Args:
        detector: a YOLOv10.
        max_instances: how many instances it gives of each picture.
        half: whether the network runs in half precision; what comes after it never does.
    """

    mean: Tensor | None

    def __init__(self, detector: SingleStageDetector, *, max_instances: int, half: bool = False) -> None:
        super().__init__()
        self.max_instances = max_instances
        network = deepcopy(detector).fuse()
        mean = _take_pixels(network)
        self.register_buffer("mean", mean if bool(mean.any()) else None)
        self.dtype = torch.float16 if half else torch.float32
        self.backbone, self.neck = network.backbone.to(self.dtype), network.neck.to(self.dtype)
        self.head = network.bbox_head.to(self.dtype)
        self.head.decoder.float()
        self.eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives; without masks where the student finds boxes alone."""
        return OUTPUTS[: 3 if self.head.prototypes is None else 4]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Find the best N instances of each picture, the best first.

        Args:
            images: (B, 3, H, W), RGB from 0 to 255; H and W are multiples of 32.

        Returns:
            boxes (B, N, 4), x1, y1, x2, y2 in pixels of the input; scores (B, N); labels (B, N); and where
            the student has masks their logits (B, N, H/4, W/4), cut off at the boxes.
        """
        if self.mean is not None:
            images = images - self.mean
        levels = self.neck(self.backbone(images.to(self.dtype)))
        outputs = self.head(levels)
        found = detect(
            outputs, make_anchors(levels, self.head.strides), self.head.decoder, self.max_instances
        )
        boxes = found.boxes, found.scores, found.labels
        if outputs.prototypes is None or found.coefficients is None:
            return boxes
        prototypes = outputs.prototypes.float()
        masks = (found.coefficients @ prototypes.flatten(2)).unflatten(2, prototypes.shape[-2:])
        return *boxes, cut_off(masks, found.boxes / self.head.mask_stride)


def cut_off(masks: Tensor, boxes: Tensor) -> Tensor:
    """Leave of masks what lies in their boxes, and a cell around, which enlarging needs inside of them.

    Args:
        masks: (B, N, h, w), logits.
        boxes: (B, N, 4), in cells.
    """
    rows, columns = (torch.arange(side, device=masks.device) + 0.5 for side in masks.shape[-2:])
    left, top, right, bottom = boxes.unsqueeze(3).unbind(2)
    inside_rows = (rows >= top - 1) & (rows <= bottom + 1)
    inside_columns = (columns >= left - 1) & (columns <= right + 1)
    # two sums, which runtimes have fast; a choice by booleans takes twice as long
    down, along = (torch.where(inside, 0.0, OUTSIDE) for inside in (inside_rows, inside_columns))
    return masks + down.unsqueeze(3) + along.unsqueeze(2)


def _take_pixels(network: SingleStageDetector) -> Tensor:
    """Let the first convolution take RGB pixels less the mean; return the mean, (3, 1, 1)."""
    given = network.data_preprocessor
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    if given._enable_normalize:
        mean, std = given.mean.cpu().expand(3, 1, 1), given.std.cpu().expand(3, 1, 1)
    # the first module that holds one is the first that runs in every backbone there is
    first = next(module for module in network.backbone.modules() if isinstance(module, nn.Conv2d))
    first.weight.data = first.weight.data / std.to(first.weight.device)
    if not given._channel_conversion:  # pictures are loaded as BGR
        first.weight.data, mean = first.weight.data.flip(1), mean.flip(0)
    return mean.to(first.weight.device).clone()
