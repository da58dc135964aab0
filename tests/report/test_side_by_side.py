"""The overlap of found and true masks, and the pictures in which it differs most."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from ibkd_mm.report import Evaluated, Evaluation, Instance, Picture
from ibkd_mm.report.side_by_side import MOST, most_different, overlap, side_by_side
from ibkd_mm.report.style import LeftOutError
from ibkd_mm.visual.overlay import overlay

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _instance(columns: slice, label: int = 0, size: tuple[int, int] = (20, 20)) -> Instance:
    mask = np.zeros(size, np.uint8, order="F")
    mask[:, columns] = 1
    found = rle.encode(mask)
    return Instance({"size": found["size"], "counts": found["counts"].decode()}, label)


LEFT, RIGHT = slice(0, 10), slice(10, 20)


def test_the_best_of_the_same_class_counts_for_each_true_instance():
    truth = [_instance(LEFT), _instance(RIGHT)]
    half = _instance(slice(0, 5))  # 5 of 10 columns: IoU 0.5
    assert overlap([half], truth) == pytest.approx(0.25)
    assert overlap([half, _instance(LEFT)], truth) == pytest.approx(0.5)
    assert overlap([_instance(LEFT, label=1), _instance(RIGHT)], truth) == pytest.approx(0.5)
    assert overlap([], truth) == 0
    assert overlap(truth, truth) == 1


@pytest.fixture
def evaluation(tmp_path):
    """Ten pictures: the baseline finds nothing, the distilled student ever more, and in the last nothing."""
    pictures, found = [], []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((20, 20, 3), 100, np.uint8))
        pictures.append(Picture(path, [_instance(LEFT, label=1)]))
        found.append([_instance(slice(0, number), label=1)] if 0 < number < 9 else [])
    return Evaluation(
        models={
            "baseline": Evaluated({}, {}, [[]] * 10),
            "distilled": Evaluated({}, {}, found),
            "teacher": Evaluated({}, {}, [[_instance(LEFT, label=1)]] * 10),
        },
        teacher_of={"distilled": "teacher"},
        pictures=pictures,
        classes=["disc", "star"],
        palette=[RED, BLUE],
    )


def test_the_pictures_that_differ_most_come_first(evaluation):
    assert most_different(evaluation, "baseline", ["distilled"]) == [8, 7, 6, 5, 4, 3]
    assert most_different(evaluation, "distilled", ["baseline"]) == [8, 7, 6, 5, 4, 3]
    assert MOST == 6


def test_a_picture_without_true_instances_is_not_compared(evaluation):
    bare = Evaluation(
        **{**evaluation.__dict__, "pictures": [Picture(one.path, []) for one in evaluation.pictures]}
    )
    assert most_different(bare, "baseline", ["distilled"]) == []
    with pytest.raises(LeftOutError, match="in no picture"):
        side_by_side(bare, "baseline", ["distilled"])


def test_everybody_is_drawn_beside_the_truth(evaluation):
    row = side_by_side(evaluation, "baseline", ["distilled"])[0]
    assert row.name == "8.png"
    assert list(row.drawn) == ["ground truth", "teacher", "baseline", "distilled"]
    assert row.overlap == {"teacher": 1.0, "baseline": 0.0, "distilled": pytest.approx(0.8)}
    assert {image.shape for image in row.drawn.values()} == {(320, 320, 3)}
    grey = np.full((20, 20, 3), 100, np.uint8)
    plain = overlay(grey, np.zeros((0, 20, 20), bool), [], [RED, BLUE], scale=16)
    np.testing.assert_array_equal(row.drawn["baseline"], plain)
    np.testing.assert_array_equal(row.drawn["ground truth"], row.drawn["teacher"])
    assert row.labels == {1}
    assert row.drawn["distilled"][5, 64].tolist() == [169, 55, 55]  # 0.55 * 100 + 0.45 * blue, in BGR


def test_a_large_picture_is_shrunk_with_its_masks(evaluation, tmp_path):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.full((480, 640, 3), 100, np.uint8))
    large = Evaluation(
        models={
            "baseline": Evaluated({}, {}, [[]]),
            "distilled": Evaluated({}, {}, [[_instance(slice(0, 320), size=(480, 640))]]),
        },
        pictures=[Picture(path, [_instance(slice(0, 320), size=(480, 640))])],
        classes=["disc"],
        palette=[RED],
    )
    drawn = side_by_side(large, "baseline", ["distilled"])[0].drawn["distilled"]
    assert drawn.shape == (240, 320, 3)
    assert drawn[20, 20].tolist() == [55, 55, 169]
    assert drawn[20, 200].tolist() == [100, 100, 100]


def test_who_was_not_evaluated_is_not_compared(evaluation):
    with pytest.raises(LeftOutError, match="were evaluated"):
        side_by_side(evaluation, "baseline", ["another"])


def test_the_surest_instance_is_drawn_on_top(evaluation):
    under = _instance(LEFT, label=0)
    found = [[Instance(under.mask, 0, score=0.9), Instance(under.mask, 1, score=0.2)]] * 10
    models = {**evaluation.models, "distilled": Evaluated({}, {}, found)}
    both = Evaluation(**{**evaluation.__dict__, "models": models})
    drawn = side_by_side(both, "baseline", ["distilled"])[0].drawn["distilled"]
    once = 0.55 * 100 + 0.45 * 255, 0.55 * 100, 0.55 * 100  # the blue one of 0.2 below
    blue, green, red = (0.55 * int(value) for value in once)
    assert drawn[20, 20].tolist() == pytest.approx([blue, green, red + 0.45 * 255], abs=1)
