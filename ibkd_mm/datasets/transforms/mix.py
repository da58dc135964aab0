"""Base of the transforms that combine images in a MultiImageMixDataset."""

from collections.abc import Sized

import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray


class MixTransform(BaseTransform):
    """Adds other images, which `MultiImageMixDataset` puts into `mix_results`, and drops hidden instances."""

    num_others: int

    def __init__(self, prob: float, min_side: float, min_area_share: float, max_aspect: float) -> None:
        self.prob = prob
        self.min_side, self.min_area_share, self.max_aspect = min_side, min_area_share, max_aspect

    def close(self) -> None:
        """Add no other images from now on."""
        self.prob = 0.0

    def get_indexes(self, dataset: Sized) -> list[int]:
        """Draw the indices of the images to add; none with a probability of 1 - prob."""
        if np.random.uniform() >= self.prob:
            return []
        return np.random.randint(len(dataset), size=self.num_others).tolist()

    def keeps(self, box: NDArray, whole_area: float) -> bool:
        """Return whether an instance stays, given the box of what is left and the area of its whole box."""
        short, long = sorted((float(box[2] - box[0]), float(box[3] - box[1])))
        is_large = short >= self.min_side and short * long >= self.min_area_share * whole_area
        return short > 0 and is_large and long <= self.max_aspect * short
