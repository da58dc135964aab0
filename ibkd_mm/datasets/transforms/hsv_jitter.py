"""Random changes of hue, saturation and value."""

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ibkd_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class HSVJitter(BaseTransform):
    """Multiply hue, saturation and value by random factors, as YOLO does.

    mmdet's `YOLOXHSVRandomAug` adds instead, which colours grey pixels.

    Args:
        hue: maximum difference of the factor from 1.
        saturation: maximum difference of the factor from 1.
        value: maximum difference of the factor from 1.
    """

    def __init__(self, hue: float = 0.015, saturation: float = 0.7, value: float = 0.4) -> None:
        self.strength = np.array([hue, saturation, value])

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the colours of an image of bytes in BGR, with a lookup table of 256 values."""
        factors = 1 + np.random.uniform(-1, 1, 3) * self.strength
        table = np.rint(np.arange(256)[:, None] * factors)
        table[:, 0] %= 180  # OpenCV counts hues in steps of two degrees
        table = np.clip(table, 0, 255).astype(np.uint8)
        hsv = cv2.cvtColor(results["img"], cv2.COLOR_BGR2HSV)
        results["img"] = cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2BGR)
        return results
