"""A cache of class probabilities, as another method might keep them: its own predictor and its own codec."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray

from ibkd_mm.offline import CacheReader
from ibkd_mm.offline import build_cache as building
from ibkd_mm.offline.build_cache import build_cache
from ibkd_mm.offline.identity import DEFAULT_CODEC, identity_of
from ibkd_mm.offline.images import FolderImages
from ibkd_mm.offline.verify import verify
from ibkd_mm.registry import TASK_UTILS

SETTINGS = {
    "path": "a.sqlite",
    "batch_size": 2,
    "predictor": "SoftLabels",
    "codec": "SoftLabelCodec",
    "bits": 8,
}


class SoftLabelCodec:
    """Keeps probabilities in a number of bits each."""

    version = 7

    def __init__(self, settings: dict[str, Any]) -> None:
        self.highest = 2 ** settings["bits"] - 1

    def count(self, entry: NDArray[np.float32]) -> int:
        return len(entry)

    def encode(self, entry: NDArray[np.float32]) -> bytes:
        return np.rint(entry * self.highest).astype(np.uint8).tobytes()

    def decode(self, data: bytes) -> NDArray[np.float32]:
        return np.frombuffer(data, np.uint8) / np.float32(self.highest)

    def is_same(self, cached: NDArray[np.float32], predicted: NDArray[np.float32]) -> bool:
        return bool(np.abs(cached - predicted).max() < 1 / self.highest)


class SoftLabels:
    """Stands for a classifier: its probabilities are the mean colours of an image."""

    teacher = None
    brighter = 0.0

    def __call__(self, batch: Any) -> list[Any]:
        assert len({image.shape for image in batch["inputs"]}) == 1
        colours = torch.stack([image.float().mean((1, 2)) / 255 for image in batch["inputs"]]) + self.brighter
        keys = [str(sample.img_id) for sample in batch["data_samples"]]
        return [
            SimpleNamespace(key=key, entry=each.numpy)
            for key, each in zip(keys, colours / colours.sum(1, keepdim=True), strict=True)
        ]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    TASK_UTILS.register_module(module=SoftLabelCodec)
    yield
    del TASK_UTILS.module_dict["SoftLabelCodec"]


def test_soft_labels_are_written_verified_and_read(
    folder: FolderImages, tmp_path: Path, teacher_config: Any
) -> None:
    path = tmp_path / "a.sqlite"
    identity = identity_of(teacher_config(), None, folder.source, [], SETTINGS, ["red", "green", "blue"])
    assert (identity["codec"], identity["version"]) == ("SoftLabelCodec", 7) != (DEFAULT_CODEC, 4)
    assert identity["settings"] == {"predictor": "SoftLabels", "bits": 8}
    list(build_cache(SoftLabels(), folder, path, identity, batch_size=3, workers=0))
    with CacheReader(path) as reader:
        assert reader.counts() == (len(folder), 3 * len(folder))
        assert isinstance(reader.codec, SoftLabelCodec)
        for index, key in enumerate(folder.keys):
            found = reader.find(key)
            (expected,) = building.predict(SoftLabels(), pseudo_collate([folder[index]]))
            assert found is not None
            assert found[1] == pytest.approx(expected.entry(), abs=0.5 / 255 + 1e-6)
    assert verify(SoftLabels(), folder, path, identity, 4).same
    other = SoftLabels()
    other.brighter = 0.5
    assert len(verify(other, folder, path, identity, 4).different) == 4
