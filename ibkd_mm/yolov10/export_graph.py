"""The graph that is exported: a fused student from pixels to instances, post-processing included."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from mmdet.models.detectors import SingleStageDetector
from torch import Tensor, nn

from ibkd_mm.stack.internals import read_normalisation
from ibkd_mm.yolov10.anchors import make_anchors
from ibkd_mm.yolov10.detections import detect

OUTPUTS = ("boxes", "scores", "labels", "masks")

MAX_INSTANCES = 100
"""Default number of instances per image: as many as COCO's average precision counts for each class."""

OUTSIDE = -1e4
"""Added to the logits of a mask outside its box: the sigmoid is zero there, in half precision too."""

_BATCHES, _MAX_STRIDES = range(1, 2**31), 1024


class DeployedStudent(nn.Module):
    """A student from pixels to instances, an `ExportGraph`; the detector that it copies stays as it is.

    Pixels are RGB in every case: channel order and standard deviation are folded into the first convolution,
    which changes no result. Folding the mean would, because that convolution pads with zeros, so the mean is
    subtracted if it is not zero. If `half`, the network runs in half precision, but not the post-processing.
    """

    inputs = {"images": (("batch", 3, "rows", "columns"), torch.float32)}
    parity_rule = "instances"
    runtime = "InstanceSegmenter"
    mean: Tensor | None

    def __init__(self, detector: SingleStageDetector, *, max_instances: int, half: bool = False) -> None:
        super().__init__()
        self.max_instances = max_instances
        self.metadata = _metadata(detector)
        network = deepcopy(detector).fuse()
        mean = _fold_pixels(network)
        self.register_buffer("mean", mean if bool(mean.any()) else None)
        self.dtype = torch.float16 if half else torch.float32
        self.backbone, self.neck = network.backbone.to(self.dtype), network.neck.to(self.dtype)
        self.head = network.bbox_head.to(self.dtype)
        self.head.decoder.float()
        self.eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs; without masks if the student predicts boxes only."""
        return OUTPUTS[: 3 if self.head.prototypes is None else 4]

    @property
    def dynamic_axes(self) -> dict[str, range]:
        """Valid batch sizes, heights (rows) and widths (columns)."""
        stride = self.metadata["stride"]
        sides = range(stride, _MAX_STRIDES * stride + 1, stride)
        return {"batch": _BATCHES, "rows": sides, "columns": sides}

    def example_inputs(self, lengths: Mapping[str, int], seed: int = 0) -> tuple[Tensor]:
        """Return images of noise, (2, 3, 160, 192) unless `lengths` has others."""
        stride = self.metadata["stride"]
        size = {"batch": 2, "rows": 5 * stride, "columns": 6 * stride, **lengths}
        shape = size["batch"], 3, size["rows"], size["columns"]
        return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 255,)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Find the best N instances of (B, 3, H, W) images, RGB from 0 to 255, the best first.

        Returns:
            boxes (B, N, 4), x1, y1, x2, y2 in pixels of the input; scores (B, N); labels (B, N); and if the
            student has masks their logits (B, N, H/4, W/4), cut off at the boxes.
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
    """Mask out what lies outside the boxes, except for the next cell, which interpolation inside them needs.

    Masks are logits, (B, N, h, w); boxes are in cells, (B, N, 4).
    """
    rows, columns = (torch.arange(side, device=masks.device) + 0.5 for side in masks.shape[-2:])
    left, top, right, bottom = boxes.unsqueeze(3).unbind(2)
    inside_rows = (rows >= top - 1) & (rows <= bottom + 1)
    inside_columns = (columns >= left - 1) & (columns <= right + 1)
    # two sums, which runtimes compute fast; selecting by booleans takes twice as long
    down, along = (torch.where(inside, 0.0, OUTSIDE) for inside in (inside_rows, inside_columns))
    return masks + down.unsqueeze(3) + along.unsqueeze(2)


def _normalisation(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Return mean and standard deviation, both (3, 1, 1), and whether the network takes RGB."""
    found = read_normalisation(preprocessor)
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    if found.mean is not None and found.std is not None:
        mean, std = (value.cpu()[:, None, None].expand(3, 1, 1) for value in (found.mean, found.std))
    return mean, std, found.swaps_channels  # the pipeline loads images as BGR


def _fold_pixels(network: SingleStageDetector) -> Tensor:
    """Let the first convolution take RGB pixels less the mean; return the mean, (3, 1, 1)."""
    mean, std, is_rgb = _normalisation(network.data_preprocessor)
    # in every backbone that there is, the first module that is a convolution runs first
    first = next(module for module in network.backbone.modules() if isinstance(module, nn.Conv2d))
    first.weight.data = first.weight.data / std.to(first.weight.device)
    if not is_rgb:
        first.weight.data, mean = first.weight.data.flip(1), mean.flip(0)
    return mean.to(first.weight.device).clone()


def _metadata(detector: SingleStageDetector) -> dict[str, Any]:
    head = detector.bbox_head
    mean, std, is_rgb = _normalisation(detector.data_preprocessor)
    means, stds = mean.flatten().tolist(), std.flatten().tolist()
    pad = [detector.data_preprocessor.pad_value * by + plus for by, plus in zip(stds, means, strict=True)]
    order = 1 if is_rgb else -1
    return {
        "stride": max(head.strides),
        "mask_stride": head.mask_stride,
        "pixels": "RGB, 0 to 255, float32",
        "normalisation": f"inside the graph: less {means[::order]}, by {stds[::order]}",
        "pad": pad[::order],
        "score_threshold": head.predictor.score_thr,
        "mask_threshold": head.predictor.mask_thr_binary,
    }
