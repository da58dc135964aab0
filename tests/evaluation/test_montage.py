import numpy as np

from ibkd_mm.evaluation import Grid, montage


def test_every_picture_stands_at_its_place_below_its_caption():
    pictures = [
        [np.full((10, 12, 3), 10 * row + column, np.uint8) for column in range(3)] for row in range(2)
    ]
    sheet = montage(Grid(("a", "b", "c"), pictures))
    assert sheet.shape == (34 + 2 * 18, 3 * 20, 3)
    for row in range(2):
        for column in range(3):
            top, left = 34 + 18 * row, 4 + 20 * column
            assert (sheet[top : top + 10, left : left + 12] == 10 * row + column).all()
            sheet[top : top + 10, left : left + 12] = 255
    assert (sheet[34:] == 255).all()
    assert all((sheet[:34, left : left + 20] < 255).any() for left in (0, 20, 40))
