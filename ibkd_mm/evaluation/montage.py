"""A grid of pictures as one picture, captions above its columns."""

import cv2
import numpy as np

from ibkd_mm.evaluation.overlay import Image
from ibkd_mm.evaluation.page import Grid

_GAP, _CAPTION = 8, 34
_WHITE, _GREY = 255, (60, 60, 60)


def montage(grid: Grid) -> Image:
    """Lay the pictures of a grid, all of one size (H, W, 3), side by side on white."""
    height, width = grid.rows[0][0].shape[:2]
    size = (_CAPTION + len(grid.rows) * (height + _GAP), len(grid.captions) * (width + _GAP), 3)
    sheet = np.full(size, _WHITE, np.uint8)
    for column, caption in enumerate(grid.captions):
        left = _GAP // 2 + column * (width + _GAP)
        where, font = (left, _CAPTION - 12), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(sheet, caption, where, font, 0.55, _GREY, 1, cv2.LINE_AA)
        for row, pictures in enumerate(grid.rows):
            top = _CAPTION + row * (height + _GAP)
            sheet[top : top + height, left : left + width] = pictures[column]
    return sheet
