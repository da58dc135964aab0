"""A picture that others are laid on, with their instances."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ibkd_mm.datasets.transforms.affine import Affine, area_factor, is_upright, map_boxes
from ibkd_mm.datasets.transforms.annotated_image import Picture, Worth
from ibkd_mm.datasets.transforms.warp import (
    Window,
    around,
    centres_inside,
    extents,
    seen_through,
    warp,
    warp_mask,
)

Patch = tuple[Window, NDArray[np.bool_]]
"""The part of a mask that may hold pixels, and these."""


class Canvas:
    """Collects pictures, each under a map of its own.

    Args:
        size: width and height.
        fill: colour of what nothing is laid on.
        like: a picture with the channels, the type and the kind of instances of all.
        worth: which instances are kept.
    """

    def __init__(self, size: tuple[int, int], fill: Sequence[float], like: Picture, worth: Worth) -> None:
        self.frame = Window(0, 0, *size)
        self.worth = worth
        self.image = np.empty((size[1], size[0], like.image.shape[2]), like.image.dtype)
        self.image[:] = np.tile(np.array(fill, like.image.dtype), (size[0], 1))  # rows are copied fast
        self._with_masks = like.masks is not None
        self._boxes: list[NDArray] = []
        self._labels: list[int] = []
        self._ignored: list[bool] = []
        self._patches: list[Patch | None] = []

    def lay(self, picture: Picture, affine: Affine) -> None:
        """Lay a picture down."""
        upright, whole = is_upright(affine), map_boxes(affine, np.array([[0, 0, *picture.size]]))[0]
        window = (centres_inside(whole) if upright else around(whole)).within(self.frame)
        if window.is_empty:
            return
        seen = None if upright else seen_through(affine, picture.size, window)
        tile = warp(picture.image, affine, window)
        np.copyto(self.image[window.pixels], tile, where=True if seen is None else seen[..., None])
        self._lay_instances(picture, affine, window, seen)

    def _lay_instances(
        self, picture: Picture, affine: Affine, window: Window, seen: NDArray[np.bool_] | None
    ) -> None:
        sides = picture.boxes[:, 2:].astype(np.float64) - picture.boxes[:, :2]
        areas = area_factor(affine) * sides.prod(axis=1)
        low, high = self.frame[:2] * 2, self.frame[2:] * 2
        for index, whole in enumerate(map_boxes(affine, picture.boxes)):
            box, patch = np.clip(whole, low, high), None
            if not self.worth.is_left(box, areas[index]):
                continue  # its mask lies inside its box
            if picture.masks is not None:
                patch = _patch(picture.masks[index], affine, window, seen)
                # what is to be ignored may have come without a mask
                if patch is None and not (picture.ignored[index] and not picture.masks[index].any()):
                    continue
            if patch is not None and not (seen is None and np.array_equal(box, whole)):
                box = np.array(patch[0], np.float64)
                if not self.worth.is_left(box, areas[index]):
                    continue
            self._boxes.append(box)
            self._labels.append(picture.labels[index])
            self._ignored.append(picture.ignored[index])
            self._patches.append(patch)

    def picture(self) -> Picture:
        """Give what came of it."""
        masks = None
        if self._with_masks:
            masks = np.zeros((len(self._boxes), *self.image.shape[:2]), np.uint8)
            for mask, patch in zip(masks, self._patches, strict=True):
                if patch is not None:
                    mask[patch[0].pixels] = patch[1]
        return Picture(
            self.image,
            np.array(self._boxes, np.float32).reshape(-1, 4),
            np.array(self._labels, np.int64),
            np.array(self._ignored, bool),
            masks,
        )


def _patch(
    mask: NDArray[np.uint8], affine: Affine, window: Window, seen: NDArray[np.bool_] | None
) -> Patch | None:
    """Map a mask and cut it to its extents; None where no pixel is left of it."""
    place, pixels = warp_mask(mask, affine, window)
    if place.is_empty:
        return None
    if seen is not None:
        pixels &= seen[
            place.top - window.top : place.bottom - window.top,
            place.left - window.left : place.right - window.left,
        ]
    tight = extents(pixels.view(np.uint8))
    if tight.is_empty:
        return None
    cut = Window(
        tight.left + place.left, tight.top + place.top, tight.right + place.left, tight.bottom + place.top
    )
    return cut, pixels[tight.pixels]
