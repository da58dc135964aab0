"""A picture with its instances, apart from the dictionary in which it passes through a pipeline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

IGNORE_LABEL = (1 << 20) - 1
"""The label of an ignored instance that may be there: what is found in its box is neither right nor wrong."""


@dataclass(frozen=True)
class Picture:
    """What a pipeline has loaded: pixels (H, W, C) and N instances."""

    image: NDArray[Any]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    masks: NDArray[np.uint8] | None
    """(N, H, W); None where none were loaded."""

    @classmethod
    def of(cls, results: dict[str, Any]) -> "Picture":
        """Read what mmdet's loading wrote; masks may be polygons."""
        boxes = get_box_tensor(results["gt_bboxes"]).numpy()
        ignored, masks = results.get("gt_ignore_flags"), results.get("gt_masks")
        return cls(
            results["img"],
            boxes,
            np.asarray(results["gt_bboxes_labels"]),
            np.zeros(len(boxes), bool) if ignored is None else np.asarray(ignored, bool),
            None if masks is None else np.asarray(masks.to_ndarray(), np.uint8),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1], self.image.shape[0]

    def write(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put it in the place of what was loaded."""
        width, height = self.size
        results.update(
            img=self.image,
            img_shape=(height, width),
            gt_bboxes=HorizontalBoxes(self.boxes),
            gt_bboxes_labels=self.labels,
            gt_ignore_flags=self.ignored,
        )
        if self.masks is not None:
            results["gt_masks"] = BitmapMasks(self.masks, height, width)
        return results


@dataclass(frozen=True)
class Worth:
    """What must be left of an instance for it to be worth learning.

    Args:
        min_side: fewest pixels of its box's sides.
        min_area_share: least share of its box's area.
        max_aspect: longest side of its box over the shortest, at most.
    """

    min_side: float
    min_area_share: float
    max_aspect: float

    def is_left(self, box: NDArray, whole_area: float) -> bool:
        """Judge the box of what is left by the area that the whole would have."""
        short, long = sorted((float(box[2] - box[0]), float(box[3] - box[1])))
        if short <= 0:
            return False
        enough = short >= self.min_side and short * long >= self.min_area_share * whole_area
        return enough and long <= self.max_aspect * short
