"""A canvas on which mapped images are laid, together with their instances."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.datasets.transforms.warp import (
    Affine,
    Window,
    area_factor,
    extents,
    find_visible,
    is_upright,
    map_boxes,
    warp,
    warp_mask,
    window_around,
    window_of_centres,
)

Keeps = Callable[[NDArray, float], bool]
MaskPatch = tuple[Window, NDArray[np.bool_]]  # bounding window of a mask, and its pixels


class Canvas:
    """Combines images, each mapped by its own affine map.

    `fill` is the colour where there is no image, `like` an image with the channels, dtype and instance fields
    of all, and `keeps` that of `MixTransform`.
    """

    def __init__(
        self, size: tuple[int, int], fill: Sequence[float], like: AnnotatedImage, keeps: Keeps
    ) -> None:
        self.frame = Window(0, 0, *size)
        self.image = np.empty((size[1], size[0], like.image.shape[2]), like.image.dtype)
        self.image[:] = np.tile(np.array(fill, like.image.dtype), (size[0], 1))  # copying rows is fast
        self._keeps = keeps
        self._with_masks = like.masks is not None
        self._instances: list[tuple[NDArray, int, bool, MaskPatch | None]] = []

    def add(self, sample: AnnotatedImage, affine: Affine) -> None:
        """Lay a mapped image over the canvas."""
        upright, bounds = is_upright(affine), map_boxes(affine, np.array([[0, 0, *sample.size]]))[0]
        window = (window_of_centres(bounds) if upright else window_around(bounds)).intersect(self.frame)
        if window.is_empty:
            return
        visible = None if upright else find_visible(affine, sample.size, window)
        tile = warp(sample.image, affine, window)
        np.copyto(self.image[window.pixels], tile, where=True if visible is None else visible[..., None])
        self._add_instances(sample, affine, window, visible)

    def _add_instances(
        self, sample: AnnotatedImage, affine: Affine, window: Window, visible: NDArray[np.bool_] | None
    ) -> None:
        sides = sample.boxes[:, 2:].astype(np.float64) - sample.boxes[:, :2]
        areas = area_factor(affine) * sides.prod(axis=1)
        low, high = self.frame[:2] * 2, self.frame[2:] * 2
        for index, whole in enumerate(map_boxes(affine, sample.boxes)):
            box, patch, ignored = np.clip(whole, low, high), None, sample.ignored[index]
            if not self._keeps(box, areas[index]):
                continue  # its mask lies inside its box
            if sample.masks is not None:
                patch = _warp_to_patch(sample.masks[index], affine, window, visible)
                # an ignored instance may have no mask from the start
                if patch is None and not (ignored and not sample.masks[index].any()):
                    continue
            if patch is not None and not (visible is None and np.array_equal(box, whole)):
                box = np.array(patch[0], np.float64)
                if not self._keeps(box, areas[index]):
                    continue
            self._instances.append((box, sample.labels[index], ignored, patch))

    def to_sample(self) -> AnnotatedImage:
        """Return the canvas with all its instances."""
        boxes, labels, ignored, patches = zip(*self._instances, strict=True) if self._instances else [()] * 4
        masks = None
        if self._with_masks:
            masks = np.zeros((len(boxes), *self.image.shape[:2]), np.uint8)
            for mask, patch in zip(masks, patches, strict=True):
                if patch is not None:
                    mask[patch[0].pixels] = patch[1]
        arrays = (
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(ignored, bool),
        )
        return AnnotatedImage(self.image, *arrays, masks)


def _warp_to_patch(
    mask: NDArray[np.uint8], affine: Affine, window: Window, visible: NDArray[np.bool_] | None
) -> MaskPatch | None:
    """Map a mask and crop it to its bounding window; return None if no pixel is left."""
    place, pixels = warp_mask(mask, affine, window)
    if place.is_empty:
        return None
    if visible is not None:
        pixels &= visible[place.shift(-window.left, -window.top).pixels]
    tight = extents(pixels.view(np.uint8))
    return None if tight.is_empty else (tight.shift(place.left, place.top), pixels[tight.pixels])
