"""A batch of images of different sizes, with no, few and many detections."""

import pytest
import torch

from ibkd_mm.yolov10.detections import Detections
from ibkd_mm.yolov10.predictor import Predictor

SURE = {"max_per_img": 300, "score_thr": 0.5, "mask_thr_binary": 0.5, "max_pixels": 2**20}
METAS = [
    {"ori_shape": (60, 100), "img_shape": (96, 160), "scale_factor": (1.6, 1.6)},
    {"ori_shape": (64, 32), "img_shape": (128, 64), "scale_factor": (2.0, 2.0)},
]


def detections(count: int) -> Detections:
    """In each of two images: a box of 32 x 24 of the input at (16, 8), then ever less sure ones."""
    torch.manual_seed(0)
    boxes = torch.rand(2, count, 4) * 20
    boxes[:, 0] = torch.tensor([16.0, 8, 48, 32])
    boxes[:, 1:, 2:] += boxes[:, 1:, :2] + 4
    scores = torch.linspace(0.99, 0.4, count).repeat(2, 1)
    return Detections(scores, torch.arange(count).repeat(2, 1) % 7, boxes, torch.ones(2, count, 1))


PROTOTYPES = torch.full((2, 1, 32, 40), 20.0)


def test_each_image_gets_results_of_its_own_size() -> None:
    first, second = Predictor(**SURE).instances(detections(5), PROTOTYPES, METAS, stride=4, rescale=True)
    assert first.masks.shape[1:] == (60, 100)
    assert second.masks.shape[1:] == (64, 32)
    # 16, 8, 48, 32 by 1.6, and by 2
    assert first.bboxes[0].tolist() == pytest.approx([10, 5, 30, 20])
    assert second.bboxes[0].tolist() == [8, 4, 24, 16]
    expected = torch.zeros(60, 100, dtype=torch.bool)
    expected[5:20, 10:30] = True
    assert torch.equal(first.masks[0], expected)
    assert second.masks[0].sum() == 12 * 16


def test_detections_above_the_threshold_keep_their_order() -> None:
    found = detections(5)
    for result in Predictor(**SURE).instances(found, PROTOTYPES, METAS, stride=4, rescale=True):
        # 0.99, 0.8425, 0.695, 0.5475 and 0.4
        assert result.scores.tolist() == pytest.approx([0.99, 0.8425, 0.695, 0.5475])
        assert result.labels.tolist() == [0, 1, 2, 3]
        assert len(result.bboxes) == len(result.masks) == 4


def test_no_detection_has_the_right_shapes() -> None:
    none = Predictor(**{**SURE, "score_thr": 1.0})
    for result, meta in zip(
        none.instances(detections(5), PROTOTYPES, METAS, stride=4, rescale=True), METAS, strict=True
    ):
        assert len(result) == 0
        assert result.bboxes.shape == (0, 4)
        assert result.masks.shape == (0, *meta["ori_shape"])
        assert result.masks.dtype == torch.bool


def test_three_hundred_each_with_a_mask_inside_its_box() -> None:
    everything = Predictor(**{**SURE, "score_thr": 0.0})
    for result in everything.instances(detections(300), PROTOTYPES, METAS, stride=4, rescale=True):
        assert len(result) == 300
        first, behind = result.bboxes.sub(0.5).ceil()[:, :2], result.bboxes.sub(0.5).ceil()[:, 2:]
        assert result.masks.sum((1, 2)).tolist() == (behind - first).prod(1).tolist()


def test_without_masks_there_are_none() -> None:
    found = detections(3)._replace(coefficients=None)
    (result,) = Predictor(**SURE).instances(found, None, METAS[:1], stride=4, rescale=True)
    assert sorted(result.keys()) == ["bboxes", "labels", "scores"]


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match="score_threshold"):
        Predictor(**SURE, score_threshold=0.1)
