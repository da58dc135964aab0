"""Instances of one picture, pasted on another."""

from collections.abc import Sized
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import autocast_box_type
from numpy.typing import NDArray

from ibkd_mm.datasets.transforms.annotated_image import Picture, Worth
from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.errors import UserError
from ibkd_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PasteInstances(BaseTransform):
    """Paste instances of another picture of the same size where they stand there, over what is here.

    What is to be ignored there comes along where it is mostly one of those: a teacher's instances do.

    Not mmdet's `CopyPaste`, which pastes crowds too, makes a picture of 64-bit numbers that nothing behind it
    takes, moves the boxes of what it does not touch, and may ask for one picture more than there are.

    Args:
        prob: how often anything is pasted.
        max_pasted: how many instances, at most.
        min_side: instances are left out of which a box with a side of fewer pixels remains,
        min_area_share: or less than this share of its area,
        max_aspect: or one that is longer than so many times its width.
    """

    def __init__(
        self,
        *,
        prob: float = 1.0,
        max_pasted: int = 100,
        min_side: float = 2,
        min_area_share: float = 0.1,
        max_aspect: float = 100,
    ) -> None:
        self.prob, self.max_pasted = prob, max_pasted
        self.worth = Worth(min_side, min_area_share, max_aspect)

    def close(self) -> None:
        """Paste nothing from now on."""
        self.prob = 0.0

    def get_indexes(self, dataset: Sized) -> list[int]:
        """Draw which picture to paste from: one, or none."""
        if np.random.uniform() >= self.prob:
            return []
        return [int(np.random.randint(len(dataset)))]

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paste from the picture in `mix_results`, where there is one."""
        others = results.get("mix_results", [])
        if not others:
            return results
        under, source = Picture.of(results), Picture.of(others[0])
        if under.masks is None or source.masks is None or under.image.shape != source.image.shape:
            raise UserError(
                "PasteInstances expects two pictures of one size, with masks, found "
                f"{under.image.shape[:2]} and {source.image.shape[:2]}. Put it into a MultiImageMixDataset "
                "around one whose pipeline has LoadAnnotations(with_mask=True) and ends with MosaicAffine."
            )
        chosen = self._choose(source)
        return _paste(under, source, chosen, self.worth).write(results) if len(chosen) else results

    def _choose(self, source: Picture) -> NDArray[np.int64]:
        """Draw some of the instances, as many as not; a crowd is none."""
        able = np.flatnonzero(~source.ignored)
        most = min(len(able), self.max_pasted)
        return np.sort(np.random.choice(able, np.random.randint(most + 1), replace=False))


def _paste(under: Picture, source: Picture, chosen: NDArray[np.int64], worth: Worth) -> Picture:
    assert under.masks is not None
    assert source.masks is not None
    cover: NDArray[np.bool_] = np.any(source.masks[chosen], axis=0)
    chosen = np.concatenate([chosen, _coinciding(source, source.masks[chosen])])
    pasted, places = source.masks[chosen] & cover, source.boxes[chosen]
    for index in np.flatnonzero((source.masks[chosen] != pasted).any(axis=(1, 2))):
        places[index] = extents(pasted[index])
    boxes, masks = under.boxes.copy(), under.masks.copy()
    kept = np.ones(len(boxes), bool)
    for index in np.flatnonzero(masks[:, cover].any(axis=1)):
        masks[index][cover] = 0
        area = np.prod(boxes[index, 2:] - boxes[index, :2])
        boxes[index] = extents(masks[index])
        kept[index] = worth.is_left(boxes[index], area)
    return Picture(
        np.where(cover[..., None], source.image, under.image),
        np.concatenate([boxes[kept], places]),
        np.concatenate([under.labels[kept], source.labels[chosen]]),
        np.concatenate([under.ignored[kept], source.ignored[chosen]]),
        np.concatenate([masks[kept], pasted]),
    )


def _coinciding(source: Picture, chosen: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find what is to be ignored and has an IoU of over a half with one of some masks."""
    assert source.masks is not None
    found = []
    areas = np.array([np.count_nonzero(mask) for mask in chosen])
    for index in np.flatnonzero(source.ignored):
        rows, columns = extents(source.masks[index]).pixels
        own = source.masks[index, rows, columns]
        both = (own & chosen[:, rows, columns]).sum(axis=(1, 2))
        if (2 * both > np.count_nonzero(own) + areas - both).any():
            found.append(index)
    return np.array(found, np.int64)
