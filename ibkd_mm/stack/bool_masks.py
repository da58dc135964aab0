"""Mask2Former's ground truth as what it is, true or false, while it is matched and sampled."""

import importlib
from functools import wraps
from typing import Any


def install() -> None:
    """Keep the masks that Mask2Former learns as booleans. Idempotent.

    mmdet makes them 64-bit integers of full size, which each layer of the decoder copies and turns into
    floats: on pictures of many instances that is half of a step, and eight times the memory. Losses are the
    same to the bit. Can go when `preprocess_panoptic_gt` does not end with `long()`.
    """
    head = importlib.import_module("mmdet.models.dense_heads.mask2former_head").Mask2FormerHead
    if "preprocess_gt" in vars(head):
        return
    inherited = head.preprocess_gt

    @wraps(inherited)
    def preprocess_gt(self: Any, *args: Any, **kwargs: Any) -> list[Any]:
        instances: list[Any] = inherited(self, *args, **kwargs)
        for each in instances:
            each.masks = each.masks.bool()
        return instances

    head.preprocess_gt = preprocess_gt
