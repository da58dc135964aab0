"""Draw instances on an image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_OPACITY = 0.45
_FONT_SIZE = 0.36


def overlay(
    image: Image,
    masks: NDArray[np.bool_],
    labels: Sequence[int],
    palette: Sequence[Colour],
    names: Sequence[str] | None = None,
    scale: int = 2,
) -> Image:
    """Fill and outline each instance in the colour of its class; write the class on it if `names` are given.

    The image is BGR (H, W, 3), the palette RGB, masks are (N, H, W). The result is `scale` times as large,
    which keeps outlines thin compared with small instances.
    """
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    drawn = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    for mask, label in zip(masks, labels, strict=True):
        colour = palette[label][::-1]
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        inside = large > 0
        drawn[inside] = (drawn[inside] * (1 - _OPACITY) + np.array(colour) * _OPACITY).astype(np.uint8)
        outlines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, 1, cv2.LINE_8)
        if names is not None and inside.any():
            _write(drawn, inside, names[label])
    return drawn


def _write(drawn: Image, inside: NDArray[np.bool_], text: str) -> None:
    """Write white on black at the innermost pixel, because the centre of a ring is not inside it."""
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(text, font, _FONT_SIZE, 1)
    left = int(np.clip(int(x) - width // 2, 1, max(1, drawn.shape[1] - width - 1)))
    base = int(np.clip(int(y) + height // 2, height + 1, drawn.shape[0] - 2))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(drawn, text, (left, base), font, _FONT_SIZE, colour, thickness, cv2.LINE_AA)
