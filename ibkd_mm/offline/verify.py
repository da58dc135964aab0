"""Compares a cache with new predictions of some of its images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dataset import pseudo_collate

from ibkd_mm.distill.interfaces import CachePredictor
from ibkd_mm.offline.build_cache import predict
from ibkd_mm.offline.images import TeacherImages, UnreadableImage
from ibkd_mm.offline.store import CacheReader, check_same


@dataclass(frozen=True)
class Verified:
    """Number of images that were predicted again, and the keys of those with other predictions."""

    images: int
    different: list[str]

    @property
    def same(self) -> bool:
        """Whether all predictions agree."""
        return not self.different

    def __str__(self) -> str:
        if self.same:
            return f"verified: the predictions of {self.images} images agree with the cache"
        keys = ", ".join(self.different[:5])
        return f"NOT the same: {len(self.different)} of {self.images} images have other predictions: {keys}"


def verify(
    predictor: CachePredictor, images: TeacherImages, path: Path, identity: dict[str, Any], count: int
) -> Verified:
    """Predict `count` of the cached images again, evenly spread over all, and compare."""
    with CacheReader(path) as reader:
        check_same(path, reader.identity, identity)
        cached = set(reader.keys())
        indices = [index for index, key in enumerate(images.keys) if key in cached]
        chosen = indices[:: max(len(indices) // max(count, 1), 1)][:count]
        different = [images.keys[index] for index in chosen if not _is_same(predictor, reader, images, index)]
    return Verified(len(chosen), different)


def _is_same(predictor: CachePredictor, reader: CacheReader, images: TeacherImages, index: int) -> bool:
    sample, found = images[index], reader.find(images.keys[index])
    if found is None or isinstance(sample, UnreadableImage):
        return False
    (prediction,) = predict(predictor, pseudo_collate([sample]))
    return bool(reader.codec.is_same(found[1], prediction.entry()))
