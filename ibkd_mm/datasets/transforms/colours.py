"""Other light: hue, saturation and value multiplied at random."""

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ibkd_mm.registry import TRANSFORMS

_HUES = 180
"""OpenCV counts a turn of hues in steps of two degrees."""


@TRANSFORMS.register_module()
class HSVJitter(BaseTransform):
    """Multiply hue, saturation and value, each by a factor of its own, as YOLO does.

    mmdet's `YOLOXHSVRandomAug` adds instead, which gives what is grey a colour.

    Args:
        hue: the factor lies between 1 - hue and 1 + hue,
        saturation: and so on,
        value: and so on.
    """

    def __init__(self, hue: float = 0.015, saturation: float = 0.7, value: float = 0.4) -> None:
        self.strength = np.array([hue, saturation, value])

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the colours of a picture in BGR bytes, by tables: there are only 256 values."""
        factors = 1 + np.random.uniform(-1, 1, 3) * self.strength
        table = np.rint(np.arange(256)[:, None] * factors)
        table[:, 0] %= _HUES
        table = np.clip(table, 0, 255).astype(np.uint8)
        hsv = cv2.cvtColor(results["img"], cv2.COLOR_BGR2HSV)
        results["img"] = cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2BGR)
        return results
