"""What the tests of transforms share: images with instances, as mmdet's loading leaves them."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

import ibkd_mm  # noqa: F401


def smooth(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """An image whose neighbouring pixels are nearly equal, so that rounding of places shows little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def loaded(
    width: int,
    height: int,
    boxes: Sequence[Sequence[int]] = (),
    *,
    labels: Sequence[int] | None = None,
    ignored: Sequence[bool] | None = None,
    masks: NDArray[np.uint8] | None = None,
    image: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Make a sample; instances fill their boxes unless masks are given."""
    if masks is None:
        masks = np.zeros((len(boxes), height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = 1
    return {
        "img": smooth(width, height, seed) if image is None else image,
        "img_shape": (height, width),
        "ori_shape": (height, width),
        "img_path": f"{seed}.png",
        "img_id": seed,
        "gt_bboxes": HorizontalBoxes(np.array(boxes, np.float32).reshape(-1, 4)),
        "gt_bboxes_labels": np.arange(len(boxes)) if labels is None else np.array(labels),
        "gt_ignore_flags": np.array([False] * len(boxes) if ignored is None else ignored, bool),
        "gt_masks": BitmapMasks(masks, height, width),
    }


@pytest.fixture(scope="session")
def sample() -> Callable[..., dict[str, Any]]:
    return loaded


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let every uniform draw give the same place between its ends: 0.5 is their middle."""

    def fix(share: float) -> None:
        def uniform(low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
            value = low + (high - low) * share
            return value if size is None else np.full(size, value)

        monkeypatch.setattr(np.random, "uniform", uniform)

    return fix
