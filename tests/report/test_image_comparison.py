"""IoU of predicted and ground truth masks, and the images in which it differs most."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from ibkd_mm.report.image_comparison import MAX_IMAGES, compare_images, mean_best_iou, rank_by_difference
from ibkd_mm.report.model_results import Instance, ModelResult, ModelResults, ValidationImage
from ibkd_mm.report.plot_style import NoDataError
from ibkd_mm.visual.overlay import overlay

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _instance(columns: slice, label: int = 0, size: tuple[int, int] = (20, 20)) -> Instance:
    mask = np.zeros(size, np.uint8, order="F")
    mask[:, columns] = 1
    found = rle.encode(mask)
    return Instance({"size": found["size"], "counts": found["counts"].decode()}, label)


LEFT, RIGHT = slice(0, 10), slice(10, 20)


def test_the_best_prediction_of_the_same_class_counts_for_each_ground_truth_instance():
    ground_truth = [_instance(LEFT), _instance(RIGHT)]
    half = _instance(slice(0, 5))  # 5 of 10 columns: IoU 0.5
    assert mean_best_iou([half], ground_truth) == pytest.approx(0.25)
    assert mean_best_iou([half, _instance(LEFT)], ground_truth) == pytest.approx(0.5)
    assert mean_best_iou([_instance(LEFT, label=1), _instance(RIGHT)], ground_truth) == pytest.approx(0.5)
    assert mean_best_iou([], ground_truth) == 0
    assert mean_best_iou(ground_truth, ground_truth) == 1


@pytest.fixture
def results(tmp_path):
    """Ten images: the baseline predicts nothing, the distilled student more and more, in the last nothing."""
    images, predictions = [], []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((20, 20, 3), 100, np.uint8))
        images.append(ValidationImage(path, [_instance(LEFT, label=1)]))
        predictions.append([_instance(slice(0, number), label=1)] if 0 < number < 9 else [])
    return ModelResults(
        models={
            "baseline": ModelResult({}, {}, [[]] * 10),
            "distilled": ModelResult({}, {}, predictions),
            "teacher": ModelResult({}, {}, [[_instance(LEFT, label=1)]] * 10),
        },
        teacher_of={"distilled": "teacher"},
        images=images,
        classes=["disc", "star"],
        palette=[RED, BLUE],
    )


def test_the_images_that_differ_most_come_first(results):
    assert rank_by_difference(results, "baseline", ["distilled"]) == [8, 7, 6, 5, 4, 3]
    assert rank_by_difference(results, "distilled", ["baseline"]) == [8, 7, 6, 5, 4, 3]
    assert MAX_IMAGES == 6


def test_an_image_without_ground_truth_is_not_compared(results):
    bare = ModelResults(
        **{**results.__dict__, "images": [ValidationImage(one.path, []) for one in results.images]}
    )
    assert rank_by_difference(bare, "baseline", ["distilled"]) == []
    with pytest.raises(NoDataError, match="in no image"):
        compare_images(bare, "baseline", ["distilled"])


def test_all_models_are_drawn_beside_the_ground_truth(results):
    row = compare_images(results, "baseline", ["distilled"])[0]
    assert row.name == "8.png"
    assert list(row.drawings) == ["ground truth", "teacher", "baseline", "distilled"]
    assert row.iou == {"teacher": 1.0, "baseline": 0.0, "distilled": pytest.approx(0.8)}
    assert {image.shape for image in row.drawings.values()} == {(320, 320, 3)}
    grey = np.full((20, 20, 3), 100, np.uint8)
    plain = overlay(grey, np.zeros((0, 20, 20), bool), [], [RED, BLUE], scale=16)
    np.testing.assert_array_equal(row.drawings["baseline"], plain)
    np.testing.assert_array_equal(row.drawings["ground truth"], row.drawings["teacher"])
    assert row.labels == {1}
    assert row.drawings["distilled"][5, 64].tolist() == [169, 55, 55]  # 0.55 * 100 + 0.45 * blue, in BGR


def test_a_large_image_is_shrunk_with_its_masks(results, tmp_path):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.full((480, 640, 3), 100, np.uint8))
    large = ModelResults(
        models={
            "baseline": ModelResult({}, {}, [[]]),
            "distilled": ModelResult({}, {}, [[_instance(slice(0, 320), size=(480, 640))]]),
        },
        images=[ValidationImage(path, [_instance(slice(0, 320), size=(480, 640))])],
        classes=["disc"],
        palette=[RED],
    )
    drawn = compare_images(large, "baseline", ["distilled"])[0].drawings["distilled"]
    assert drawn.shape == (240, 320, 3)
    assert drawn[20, 20].tolist() == [55, 55, 169]
    assert drawn[20, 200].tolist() == [100, 100, 100]


def test_a_model_that_was_not_evaluated_is_not_compared(results):
    with pytest.raises(NoDataError, match="were evaluated"):
        compare_images(results, "baseline", ["another"])


def test_the_most_confident_instance_is_drawn_on_top(results):
    under = _instance(LEFT, label=0)
    found = [[Instance(under.mask, 0, score=0.9), Instance(under.mask, 1, score=0.2)]] * 10
    models = {**results.models, "distilled": ModelResult({}, {}, found)}
    both = ModelResults(**{**results.__dict__, "models": models})
    drawn = compare_images(both, "baseline", ["distilled"])[0].drawings["distilled"]
    once = 0.55 * 100 + 0.45 * 255, 0.55 * 100, 0.55 * 100  # the blue one of 0.2 below
    blue, green, red = (0.55 * int(value) for value in once)
    assert drawn[20, 20].tolist() == pytest.approx([blue, green, red + 0.45 * 255], abs=1)
