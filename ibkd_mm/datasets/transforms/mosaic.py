"""Random mosaic of four images, or one image alone, with a random affine map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.structures.bbox import autocast_box_type

from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.datasets.transforms.canvas import Canvas
from ibkd_mm.datasets.transforms.mix import MixTransform
from ibkd_mm.datasets.transforms.warp import Affine, chain, rotate, shear, shift, stretch
from ibkd_mm.errors import UserError
from ibkd_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MosaicAffine(MixTransform):
    """YOLO's mosaic and the random affine map after it in one step, so that each image is sampled once.

    Four images, each resized to fit `size`, meet in a point of a canvas twice as large, of which a part of
    `size` is returned. A single image is resized to fit `size` and centred. Use it in mmdet's
    `MultiImageMixDataset`, around a dataset whose pipeline loads images and annotations.

    Boxes of instances that are completely visible are exact; that of a cropped or rotated instance is the
    bounding box of its remaining pixels.

    Args:
        size: width and height.
        prob: probability of a mosaic instead of a single image.
        scale: maximum difference of the random scale from 1.
        translate: maximum translation as a fraction of `size`.
        degrees: maximum rotation.
        shear: maximum shear of rows and columns in degrees.
        fill: colour where there is no image.
        min_side: minimum side of a box in pixels; instances with a smaller one are dropped.
        min_area_share: minimum fraction of the area of an instance's box that must be left.
        max_aspect: maximum ratio between the sides of a box.
    """

    num_others = 3

    def __init__(
        self,
        size: tuple[int, int],
        *,
        prob: float = 1.0,
        scale: float = 0.5,
        translate: float = 0.1,
        degrees: float = 0.0,
        shear: float = 0.0,
        fill: Sequence[float] = (114, 114, 114),
        min_side: float = 2,
        min_area_share: float = 0.1,
        max_aspect: float = 100,
    ) -> None:
        super().__init__(prob, min_side, min_area_share, max_aspect)
        if not 0 <= scale < 1:
            raise UserError(f"Expected a scale of at least 0 and below 1 in MosaicAffine, found {scale}.")
        (self.width, self.height), self.fill = size, fill
        self.scale, self.translate, self.degrees, self.shear = scale, translate, degrees, shear

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Combine the image with those of `mix_results`, if there are any."""
        others = results.get("mix_results", [])
        if len(others) not in (0, self.num_others):
            raise UserError(
                f"MosaicAffine expects 0 or 3 images in mix_results, found {len(others)}. It draws them "
                "itself in the pipeline of a MultiImageMixDataset."
            )
        samples = [AnnotatedImage.from_results(each) for each in (results, *others)]
        maps = self._map_around_a_point(samples) if others else [self._map_to_centre(samples[0])]
        view = self._draw_affine(2 if others else 1)
        canvas = Canvas((self.width, self.height), self.fill, samples[0], self.keeps)
        for sample, affine in zip(samples, maps, strict=True):
            canvas.add(sample, chain(affine, view))
        return canvas.to_sample().write(results)

    def _fit(self, sample: AnnotatedImage) -> tuple[int, int]:
        """Return the largest size (width, height) in whole pixels at which an image fits."""
        width, height = sample.size
        factor = min(self.width / width, self.height / height)
        return max(round(width * factor), 1), max(round(height * factor), 1)

    def _map_to_centre(self, sample: AnnotatedImage) -> Affine:
        width, height = self._fit(sample)
        return _map_into(sample, (width, height), (self.width - width) // 2, (self.height - height) // 2)

    def _map_around_a_point(self, samples: Sequence[AnnotatedImage]) -> list[Affine]:
        """Let the corners of four images meet in a random point of the canvas's middle half."""
        x, y = (int(np.random.uniform(0.5, 1.5) * side) for side in (self.width, self.height))
        maps = []
        for index, sample in enumerate(samples):
            width, height = self._fit(sample)
            left, top = x - width * (index % 2 == 0), y - height * (index < 2)
            maps.append(_map_into(sample, (width, height), left, top))
        return maps

    def _draw_affine(self, canvas_scale: int) -> Affine:
        """Draw a map from the centre of a canvas to about the centre of the result."""
        degrees = np.random.uniform(-self.degrees, self.degrees)
        factor = np.random.uniform(1 - self.scale, 1 + self.scale)
        shears = np.random.uniform(-self.shear, self.shear, 2)
        x, y = np.random.uniform(0.5 - self.translate, 0.5 + self.translate, 2)
        centre = shift(-canvas_scale * self.width / 2, -canvas_scale * self.height / 2)
        moved = shift(x * self.width, y * self.height)
        return chain(centre, rotate(degrees), stretch(factor, factor), shear(*shears), moved)


def _map_into(sample: AnnotatedImage, size: tuple[int, int], left: int, top: int) -> Affine:
    width, height = sample.size
    return chain(stretch(size[0] / width, size[1] / height), shift(left, top))
