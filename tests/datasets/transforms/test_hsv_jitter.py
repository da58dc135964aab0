from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ibkd_mm.datasets.transforms import HSVJitter

PIXELS = np.array(
    [[[30, 60, 200], [90, 90, 90], [200, 40, 40], [0, 0, 0], [10, 220, 110], [90, 30, 220]]], np.uint8
)


def change(share: float, fixed: Callable, **strength: float) -> np.ndarray:
    fixed(share)
    none = {"hue": 0.0, "saturation": 0.0, "value": 0.0}
    image = HSVJitter(**{**none, **strength}).transform({"img": PIXELS.copy()})["img"]
    return cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[0].astype(int)


BEFORE = cv2.cvtColor(PIXELS, cv2.COLOR_BGR2HSV)[0].astype(int)


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.6), (0.5, 1.0), (0.75, 1.2), (1.0, 1.4)])
def test_value_is_multiplied_and_ends_at_white(fixed: Callable, share: float, factor: float) -> None:
    after = change(share, fixed, value=0.4)
    assert np.abs(after[:, 2] - np.minimum(BEFORE[:, 2] * factor, 255)).max() <= 0.5


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.3), (1.0, 1.7)])
def test_saturation_is_multiplied_and_grey_stays_grey(fixed: Callable, share: float, factor: float) -> None:
    after = change(share, fixed, saturation=0.7)
    assert np.abs(after[:, 1] - np.minimum(BEFORE[:, 1] * factor, 255)).max() <= 3  # bytes in between
    assert after[1].tolist() == [0, 0, 90]
    assert after[3].tolist() == [0, 0, 0]


def test_hues_turn_round(fixed: Callable) -> None:
    after = change(1.0, fixed, hue=0.9)
    coloured = BEFORE[:, 1] > 0
    turned = (BEFORE[:, 0] * 1.9) % 180
    away = np.abs(after[:, 0] - turned)[coloured]
    assert np.minimum(away, 180 - away).max() <= 1.5
    assert BEFORE[:, 0].max() * 1.9 > 255


def test_nothing_to_multiply_changes_nothing_but_what_the_conversion_rounds() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    there_and_back = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), cv2.COLOR_HSV2BGR)
    found = HSVJitter(0, 0, 0).transform({"img": image})["img"]
    assert np.array_equal(found, there_and_back)
