"""mmdet's datasets imported without output, and boolean ground-truth masks for Mask2Former."""

import importlib
import io
from contextlib import redirect_stdout
from functools import wraps
from typing import Any

from ibkd_mm.stack.lazy_modules import lazy_modules

# Modules of imgaug. Only two transforms use it or imagecorruptions: one for lanes, one that corrupts images.
_IMGAUG = ("augmenters", "augmentables", "augmentables.lines", "augmentables.segmaps")


def import_datasets() -> None:
    """Import mmdet's datasets without the messages that they print.

    The fork prints at import that a service of its makers is not installed, and imports packages that it may
    never use: with `scipy.stats`, see `razor`, 0.55 of 4.6 s that `import ibkd_mm.register_all` takes on one
    core. Can go when it does neither.
    """
    names = ("imgaug", *(f"imgaug.{name}" for name in _IMGAUG), "imagecorruptions")
    with redirect_stdout(io.StringIO()), lazy_modules(*names):
        importlib.import_module("mmdet.datasets")


def keep_masks_boolean() -> None:
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
