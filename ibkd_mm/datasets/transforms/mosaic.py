"""Four pictures in one, or one, shrunk, enlarged and moved at random, masks and boxes with them."""

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import autocast_box_type

from ibkd_mm.datasets.transforms.affine import Affine, chain, rotate, shear, shift, stretch
from ibkd_mm.datasets.transforms.annotated_image import Picture, Worth
from ibkd_mm.datasets.transforms.canvas import Canvas
from ibkd_mm.errors import UserError
from ibkd_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MosaicAffine(BaseTransform):
    """The mosaic of YOLO, and the random affine map after it, in one step: each picture is sampled once.

    Four pictures, each made to fit `size`, are laid around a point of a canvas twice as large, and `size` of
    it is seen. A picture by itself is made to fit `size`, in its middle. For mmdet's `MultiImageMixDataset`,
    around pictures that are loaded with their annotations.

    Boxes of instances that are seen whole are exact; of one that is cut off, or turned, the box is that of
    the pixels that are left.

    Args:
        size: width and height.
        prob: how often four pictures are taken.
        scale: enlarges or shrinks by a factor between 1 - scale and 1 + scale.
        translate: moves by up to this share of `size`.
        degrees: turns by up to so many degrees.
        shear: slants rows and columns by up to so many degrees.
        fill: colour where there is no picture.
        min_side: instances are left out of which a box with a side of fewer pixels remains,
        min_area_share: or less than this share of its area,
        max_aspect: or one that is longer than so many times its width.
    """

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
        if not 0 <= scale < 1:
            raise UserError(f"Expected a scale of at least 0 and below 1 in MosaicAffine, found {scale}.")
        self.width, self.height = size
        self.prob = prob
        self.scale, self.translate, self.degrees, self.shear = scale, translate, degrees, shear
        self.fill = fill
        self.worth = Worth(min_side, min_area_share, max_aspect)

    def close(self) -> None:
        """Take pictures by themselves from now on."""
        self.prob = 0.0

    def get_indexes(self, dataset: Sized) -> list[int]:
        """Draw which pictures to put beside one: three, or none."""
        if np.random.uniform() >= self.prob:
            return []
        return np.random.randint(len(dataset), size=3).tolist()

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Lay the pictures of `mix_results` around one; let it stand by itself where there are none."""
        others = results.get("mix_results", [])
        if len(others) not in (0, 3):
            raise UserError(
                f"MosaicAffine puts 0 or 3 pictures beside one, found {len(others)}. It draws them itself, "
                "in the pipeline of a MultiImageMixDataset."
            )
        pictures = [Picture.of(each) for each in (results, *others)]
        places = self._around_a_point(pictures) if others else [self._in_the_middle(pictures[0])]
        across = 2 if others else 1
        seen = self._random_affine(across * self.width, across * self.height)
        canvas = Canvas((self.width, self.height), self.fill, pictures[0], self.worth)
        for picture, place in zip(pictures, places, strict=True):
            canvas.lay(picture, chain(place, seen))
        return canvas.picture().write(results)

    def _fit(self, picture: Picture) -> tuple[int, int]:
        """Find the largest size (width, height) in whole pixels at which a picture fits."""
        width, height = picture.size
        factor = min(self.width / width, self.height / height)
        return max(round(width * factor), 1), max(round(height * factor), 1)

    def _in_the_middle(self, picture: Picture) -> Affine:
        width, height = self._fit(picture)
        left, top = (self.width - width) // 2, (self.height - height) // 2
        return _into(picture, (width, height), left, top)

    def _around_a_point(self, pictures: Sequence[Picture]) -> list[Affine]:
        """Let the corners of four pictures meet in a point of the canvas's middle half."""
        x, y = (int(np.random.uniform(0.5, 1.5) * side) for side in (self.width, self.height))
        places = []
        for index, picture in enumerate(pictures):
            width, height = self._fit(picture)
            left, top = x - width * (index % 2 == 0), y - height * (index < 2)
            places.append(_into(picture, (width, height), left, top))
        return places

    def _random_affine(self, width: int, height: int) -> Affine:
        """Draw a map of a canvas's middle to about the middle of what is seen."""
        turned = np.random.uniform(-self.degrees, self.degrees)
        factor = np.random.uniform(1 - self.scale, 1 + self.scale)
        slanted = np.random.uniform(-self.shear, self.shear, 2)
        x, y = np.random.uniform(0.5 - self.translate, 0.5 + self.translate, 2)
        return chain(
            shift(-width / 2, -height / 2),
            rotate(turned),
            stretch(factor, factor),
            shear(*slanted),
            shift(x * self.width, y * self.height),
        )


def _into(picture: Picture, size: tuple[int, int], left: int, top: int) -> Affine:
    """Map a picture into a rectangle."""
    width, height = picture.size
    return chain(stretch(size[0] / width, size[1] / height), shift(left, top))
