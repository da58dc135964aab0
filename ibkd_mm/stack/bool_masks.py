"""Boolean ground-truth masks for Mask2Former."""

import importlib
from functools import wraps
from typing import Any


def install() -> None:
    """Keep the masks that Mask2Former is trained on as booleans. Idempotent.

    mmdet makes them 64-bit integers of full size, which each decoder layer copies and converts to float: on
    images with many instances half of a step's time and eight times the memory. The losses are bit-identical.
    Can go when `preprocess_panoptic_gt` does not end with `long()`.
    """
    head = importlib.import_module("mmdet.models.dense_heads.mask2former_head").Mask2FormerHead
    if "preprocess_gt" in vars(head):
        return
    inherited = head.preprocess_gt

    @wraps(inherited)
    def preprocess_gt(self: Any, *args: Any, **kwargs: Any) -> list[Any]:
        instances: list[Any] = inherited(self, *args, **kwargs)
        for image_instances in instances:
            image_instances.masks = image_instances.masks.bool()
        return instances

    head.preprocess_gt = preprocess_gt
