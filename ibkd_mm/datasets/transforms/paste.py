"""Paste instances of one image on another."""

from typing import Any

import numpy as np
from mmdet.structures.bbox import autocast_box_type
from numpy.typing import NDArray

from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.datasets.transforms.mix import MixTransform
from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.errors import UserError
from ibkd_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PasteInstances(MixTransform):
    """Paste instances of another image of the same size at the same place.

    Ignored instances of the other image, such as those of a teacher, are pasted with an instance that they
    match. mmdet's `CopyPaste` also pastes crowds, returns an image of 64-bit numbers that later transforms
    refuse, moves the boxes of instances that it does not cover, and may draw an index beyond the last image.

    Args:
        prob: probability of pasting.
        max_pasted: maximum number of instances.
        min_side: minimum side of a box in pixels; covered instances with a smaller one are dropped.
        min_area_share: minimum fraction of the area of an instance's box that must be left.
        max_aspect: maximum ratio between the sides of a box.
    """

    num_others = 1

    def __init__(
        self,
        *,
        prob: float = 1.0,
        max_pasted: int = 100,
        min_side: float = 2,
        min_area_share: float = 0.1,
        max_aspect: float = 100,
    ) -> None:
        super().__init__(prob, min_side, min_area_share, max_aspect)
        self.max_pasted = max_pasted

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paste from the image in `mix_results`, if there is one."""
        others = results.get("mix_results", [])
        if not others:
            return results
        target, source = AnnotatedImage.from_results(results), AnnotatedImage.from_results(others[0])
        if target.masks is None or source.masks is None or target.image.shape != source.image.shape:
            raise UserError(
                "PasteInstances expects two images of the same size, with masks, found "
                f"{target.image.shape[:2]} and {source.image.shape[:2]}. Use it in a MultiImageMixDataset "
                "around one whose pipeline has LoadAnnotations(with_mask=True) and ends with MosaicAffine."
            )
        chosen = self._choose(source)
        return self._paste(target, source, chosen).write(results) if len(chosen) else results

    def _choose(self, source: AnnotatedImage) -> NDArray[np.int64]:
        candidates = np.flatnonzero(~source.ignored)
        limit = min(len(candidates), self.max_pasted)
        return np.sort(np.random.choice(candidates, np.random.randint(limit + 1), replace=False))

    def _paste(self, target: AnnotatedImage, source: AnnotatedImage, chosen: NDArray[Any]) -> AnnotatedImage:
        assert target.masks is not None
        assert source.masks is not None
        cover: NDArray[np.bool_] = np.any(source.masks[chosen], axis=0)
        chosen = np.concatenate([chosen, _find_matching_ignored(source, source.masks[chosen])])
        pasted_masks, pasted_boxes = source.masks[chosen] & cover, source.boxes[chosen]
        for index in np.flatnonzero((source.masks[chosen] != pasted_masks).any(axis=(1, 2))):
            pasted_boxes[index] = extents(pasted_masks[index])
        boxes, masks = target.boxes.copy(), target.masks.copy()
        kept = np.ones(len(boxes), bool)
        for index in np.flatnonzero(masks[:, cover].any(axis=1)):
            masks[index][cover] = 0
            area = np.prod(boxes[index, 2:] - boxes[index, :2])
            boxes[index] = extents(masks[index])
            kept[index] = self.keeps(boxes[index], area)
        return AnnotatedImage(
            np.where(cover[..., None], source.image, target.image),
            np.concatenate([boxes[kept], pasted_boxes]),
            np.concatenate([target.labels[kept], source.labels[chosen]]),
            np.concatenate([target.ignored[kept], source.ignored[chosen]]),
            np.concatenate([masks[kept], pasted_masks]),
        )


def _find_matching_ignored(source: AnnotatedImage, masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the ignored instances that have an IoU above 0.5 with one of some masks."""
    assert source.masks is not None
    found = []
    areas = np.array([np.count_nonzero(mask) for mask in masks])
    for index in np.flatnonzero(source.ignored):
        rows, columns = extents(source.masks[index]).pixels
        mask = source.masks[index, rows, columns]
        intersection = (mask & masks[:, rows, columns]).sum(axis=(1, 2))
        if (2 * intersection > np.count_nonzero(mask) + areas - intersection).any():
            found.append(index)
    return np.array(found, np.int64)
