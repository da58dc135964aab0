"""An image with its instances, outside the dictionary of the pipeline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

# label of an ignored instance in whose box predictions are neither right nor wrong
IGNORE_LABEL = (1 << 20) - 1


@dataclass(frozen=True)
class AnnotatedImage:
    """Pixels (H, W, C) and N instances that a pipeline has loaded; masks (N, H, W) are None if not loaded."""

    image: NDArray[Any]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    masks: NDArray[np.uint8] | None

    @classmethod
    def from_results(cls, results: dict[str, Any]) -> "AnnotatedImage":
        """Read what mmdet's loading wrote into `results`; masks may be polygons."""
        boxes, labels = get_box_tensor(results["gt_bboxes"]).numpy(), np.asarray(results["gt_bboxes_labels"])
        ignored, masks = results.get("gt_ignore_flags"), results.get("gt_masks")
        ignored = np.zeros(len(boxes), bool) if ignored is None else np.asarray(ignored, bool)
        masks = None if masks is None else np.asarray(masks.to_ndarray(), np.uint8)
        return cls(results["img"], boxes, labels, ignored, masks)

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height."""
        return self.image.shape[1], self.image.shape[0]

    def write(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace image and instances in `results`."""
        shape = self.image.shape[:2]
        results.update(img=self.image, img_shape=shape, gt_bboxes=HorizontalBoxes(self.boxes))
        results.update(gt_bboxes_labels=self.labels, gt_ignore_flags=self.ignored)
        if self.masks is not None:
            results["gt_masks"] = BitmapMasks(self.masks, *shape)
        return results
