"""A teacher's instances at full image size, as `ibkd cache` stores them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.distill.teacher import FrozenTeacher
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.offline.instance_codec import (
    ONE_THRESHOLD,
    CachedInstances,
    main_threshold,
    mask_thresholds_of,
    min_component_ratio_of,
    pack_mask,
    remove_small_components,
)
from ibkd_mm.registry import MODELS, TASK_UTILS


@TASK_UTILS.register_module()
class InstancePredictor:
    """Predicts the instances of images for a cache.

    Args:
        teacher: the frozen teacher.
        preprocessor: data preprocessor of the student.
        instances: settings of the connector that makes instances of the teacher's outputs.
        topk_classes: number of most probable classes that are kept of each instance.
        mask_thresholds: probabilities at which masks are cut.
        min_component_ratio: smaller components of a mask, relative to its largest, are removed.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        preprocessor: nn.Module,
        instances: Any,
        topk_classes: int,
        mask_thresholds: Sequence[float] = ONE_THRESHOLD,
        min_component_ratio: float = 0.0,
    ) -> None:
        self.teacher, self.preprocessor = teacher, preprocessor
        self.connector = MODELS.build(instances)
        self.topk_classes = topk_classes
        self.mask_thresholds = mask_thresholds_of({"mask_thresholds": mask_thresholds})
        self.min_component_ratio = min_component_ratio_of({"min_component_ratio": min_component_ratio})

    @torch.no_grad()
    def __call__(self, batch: Any) -> list["TeacherPrediction"]:
        """Predict the images of a collated batch, all of one size."""
        data = self.preprocessor(batch, False)
        inputs, samples = data["inputs"], data["data_samples"]
        found = self.connector(self.teacher.outputs(inputs, samples))
        rows = [
            TeacherInstances(*(column[found.image == index] for column in vars(found).values()))
            for index in range(len(samples))
        ]
        pairs = zip(rows, samples, strict=True)
        return [TeacherPrediction(own, inputs.shape[2:], sample.metainfo, self) for own, sample in pairs]


@dataclass(frozen=True)
class TeacherPrediction:
    """The instances of one image with input (H, W) and `metainfo`, with masks still on the teacher's grid."""

    instances: TeacherInstances
    input_size: Sequence[int]
    meta: Mapping[str, Any]
    predictor: InstancePredictor

    @property
    def key(self) -> str:
        """Name of the image."""
        return str(self.meta["img_id"])

    @torch.no_grad()
    def entry(self) -> CachedInstances:
        """Enlarge the masks to the image, one by one, and pack them; drop instances with empty masks."""
        thresholds, min_ratio = self.predictor.mask_thresholds, self.predictor.min_component_ratio
        kept, boxes, packed = [], [], []
        for row, logits in enumerate(self.instances.mask_logits):
            cut = _cut_masks(logits, self.input_size, self.meta, thresholds).to(torch.uint8).cpu().numpy()
            masks = [remove_small_components(mask, min_ratio) for mask in cut]
            main = masks[main_threshold(thresholds)]
            if main.any():
                kept.append(row)
                boxes.append(extents(main))
                packed.append([pack_mask(mask) for mask in masks])
        return CachedInstances.of_packed(
            self.meta["ori_shape"][:2],
            np.array(boxes, np.float32).reshape(-1, 4),
            self.instances.scores[kept].cpu().numpy(),
            self.instances.probabilities[kept].cpu().numpy(),
            chain.from_iterable(zip(*packed, strict=True)),
            self.predictor.topk_classes,
            thresholds,
        )


def _cut_masks(logits: Tensor, input_size: Sequence[int], meta: Any, thresholds: Sequence[float]) -> Tensor:
    """Enlarge (h, w) logits from the input to the image and cut them: (thresholds, H, W), booleans."""
    height, width = meta["ori_shape"][:2]
    scale_x, scale_y = meta.get("scale_factor", (1.0, 1.0))
    resized = round(height * scale_y), round(width * scale_x)  # without padding, which img_shape may include
    whole = F.interpolate(logits[None, None], tuple(input_size), mode="bilinear")
    whole = whole[:, :, : resized[0], : resized[1]]
    if resized != (height, width):
        whole = F.interpolate(whole, (height, width), mode="bilinear")
    cuts = [math.log(threshold / (1 - threshold)) for threshold in thresholds]
    return whole[0] > whole.new_tensor(cuts)[:, None, None]
