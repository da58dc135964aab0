import numpy as np
import pytest
import torch
from helpers.exported_students import *  # noqa: F403
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample

from ibkd_mm.yolov10.export_graph import OUTSIDE, DeployedStudent, cut_off
from ibkd_mm.yolov10.mask_paste import Frame, paste_masks

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


@pytest.mark.parametrize(
    ("given_as", "subtracts"),
    [
        ({"mean": [0.0] * 3, "std": [255.0] * 3, "bgr_to_rgb": True}, False),
        ({"mean": [0.0], "std": [200.0]}, False),
        ({**IMAGENET, "bgr_to_rgb": True}, True),
        (IMAGENET, True),
    ],
)
def test_pixels_give_what_the_preprocessor_and_predict_give(config, build, given_as, subtracts):
    detector = build(config)
    detector.data_preprocessor = DetDataPreprocessor(**given_as)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    graph = DeployedStudent(detector, max_instances=60)
    assert (graph.mean is not None) == subtracts
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8))
    meta = {"img_shape": (64, 96), "ori_shape": (64, 96), "scale_factor": (1.0, 1.0)}
    data = {"inputs": list(pixels.flip(1)), "data_samples": [DetDataSample(metainfo=meta) for _ in pixels]}
    with torch.no_grad():
        predicted = detector.test_step(data)
        boxes, scores, labels, masks = graph(pixels.float())
    assert masks.shape == (2, 60, 16, 24)
    for place, sample in enumerate(predicted):
        expected = sample.pred_instances[:60]
        torch.testing.assert_close(scores[place], expected.scores, atol=1e-5, rtol=0)
        assert torch.equal(labels[place], expected.labels)
        clipped = Frame(96, 64).boxes(boxes[place])
        torch.testing.assert_close(clipped, expected.bboxes, atol=5e-2, rtol=0)  # pixels
        enlarged = paste_masks(
            masks[place].sigmoid(), clipped, Frame(96, 64), stride=4, threshold=0.5, chunk=1
        )
        assert (enlarged == expected.masks).float().mean() >= 0.9999
    assert detector.bbox_head.one_to_many is not None, "the detector was changed"
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_the_network_alone_is_halved(detector):
    half = DeployedStudent(detector, max_instances=5, half=True)
    assert {value.dtype for value in half.backbone.parameters()} == {torch.float16}
    assert half.head.decoder.values.dtype == torch.float32
    images = torch.full((1, 3, 64, 64), 100.0)
    with torch.no_grad():
        found = half(images)
        expected = DeployedStudent(detector, max_instances=5)(images)
    assert [each.dtype for each in found] == [torch.float32, torch.float32, torch.int64, torch.float32]
    torch.testing.assert_close(found[1], expected[1], atol=1e-2, rtol=0)


def test_a_graph_of_boxes_only_has_no_masks(boxes_config, build):
    graph = DeployedStudent(build(boxes_config), max_instances=7)
    assert graph.outputs == ("boxes", "scores", "labels")
    with torch.no_grad():
        found = graph(torch.zeros(1, 3, 32, 64))
    assert [each.shape for each in found] == [(1, 7, 4), (1, 7), (1, 7)]


def test_masks_are_cut_off_a_cell_around_their_boxes():
    """The box of 1.6 to 3.4 cells across reaches from the cell whose centre is 0.6 to that of 4.4."""
    masks = cut_off(torch.zeros(1, 2, 4, 6), torch.tensor([[[1.6, -3.0, 3.4, 0.4], [0.0, 0.0, 6.0, 4.0]]]))
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[:1, 1:4] = True
    assert torch.equal(masks[0, 0] == 0, expected)
    assert masks[0, 0].min() == 2 * OUTSIDE
    assert torch.equal(masks[0, 1], torch.zeros(4, 6))
    assert torch.tensor(OUTSIDE).half().isfinite()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 4.0))
def test_cutting_off_changes_nothing_inside_the_boxes(seed, scale):
    draws = torch.Generator().manual_seed(seed)
    masks = torch.randn(4, 12, 16, generator=draws) * 4
    corners = torch.rand(4, 2, 2, generator=draws) * torch.tensor([70.0, 54.0]) - 4
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    frame = Frame(int(64 / scale), int(48 / scale), (scale, scale))
    cut = cut_off(masks[None], boxes[None] / 4)[0]
    before, after = (
        paste_masks(each.sigmoid(), frame.boxes(boxes), frame, stride=4, threshold=0.5, chunk=1)
        for each in (masks, cut)
    )
    assert torch.equal(before, after)
