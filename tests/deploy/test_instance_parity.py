from unittest.mock import Mock

import numpy as np
import pytest
import torch

from ibkd_mm.deploy.instance_parity import (
    InstanceParity,
    Tolerance,
    compare_files,
    compare_instances,
    intersection_over_union,
)
from ibkd_mm.deploy.runtime import FORMAT, Frame, ModelInfo
from ibkd_mm.yolov10.export_graph import DeployedStudent

INFO = ModelInfo(
    format=FORMAT,
    version="0",
    precision="fp32",
    classes=list("abcdefgh"),
    size=[64, 64],
    dynamic=False,
    keep_ratio=True,
    stride=32,
    mask_stride=4,
    pixels="",
    normalisation="",
    pad=[114.0] * 3,
    score_threshold=0.001,
    mask_threshold=0.5,
)
FRAME = Frame(64, 64, (1.0, 1.0))


@pytest.fixture
def expected():
    draws = np.random.default_rng(0)
    corners = draws.uniform(0, 64, (6, 2, 2))
    return {
        "boxes": np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32),
        "scores": np.array([0.9, 0.7, 0.5, 0.3, 0.2, 0.1], np.float32),
        "labels": np.array([0, 1, 0, 1, 0, 1]),
        "masks": draws.normal(0, 3, (6, 16, 16)).astype(np.float32),
    }


@pytest.fixture
def result(expected):
    """The first four of the six instances, as from a file with a lower limit."""
    return {name: each[:4].copy() for name, each in expected.items()}


def _compared(result, expected):
    return compare_instances(result, expected, FRAME, INFO, 64)


def test_equal_instances_have_no_difference(result, expected):
    same = _compared(result, expected)
    # the last one is as good as the next but for the tolerance, so it is not asked for
    assert (same.boxes, same.scores, same.masks, same.iou, same.instances, same.missing) == (0, 0, 0, 1, 3, 0)
    assert same.passed


def test_differences_are_measured(result, expected):
    result["boxes"][1, 2] += 0.64
    result["scores"][0] -= 0.05
    found = _compared(result, expected)
    assert found.boxes == pytest.approx(0.01, rel=1e-4)
    assert found.scores == pytest.approx(0.05, rel=1e-4)
    assert not found.passed


def test_the_order_of_scores_that_are_nearly_equal_may_differ(result, expected):
    expected["scores"][1] = expected["scores"][0] - 1e-6
    result = {name: each[[1, 0, 2, 3]] for name, each in result.items()}
    result["scores"][:2] = expected["scores"][:2]
    assert _compared(result, expected).passed


def test_ties_with_the_last_instance_may_be_resolved_differently(result, expected):
    expected["scores"][4] = expected["scores"][3]
    for name, each in result.items():
        each[3] = expected[name][4]
    assert _compared(result, expected).passed


def test_another_class_or_one_too_few_is_missing(result, expected):
    result["labels"][0] = 1
    wrong = _compared(result, expected)
    assert (wrong.missing, wrong.passed) == (1, False)
    result["labels"][0] = 0
    fewer = {name: each[[0, 2, 3]] for name, each in result.items()}
    assert (_compared(fewer, expected).missing, _compared(fewer, expected).passed) == (1, False)


def test_a_file_of_zeros_fails(result, expected):
    """All scores of such a file are tied with its last one, but those of the model are not."""
    for each in result.values():
        each[:] = 0
    found = _compared(result, expected)
    assert found.scores > 0.5
    assert not found.passed


@pytest.mark.parametrize("name", ["boxes", "scores", "masks"])
def test_instances_that_are_not_finite_are_missing(result, expected, name):
    result[name][1] = np.nan
    one = _compared(result, expected)
    assert (one.instances, one.missing >= 1, one.passed) == (2, True, False)
    result[name][:] = np.inf
    none = _compared(result, expected)
    assert (none.instances, none.missing, none.passed) == (0, 4, False)


def test_masks_are_compared_in_their_boxes_and_in_the_image(result, expected):
    expected["boxes"][0] = result["boxes"][0] = [8, 8, 40, 40]
    expected["masks"][0] = result["masks"][0] = -5.0
    expected["masks"][0, 2:10, 2:10] = 5.0
    result["masks"][0, 2:10, 2:10] = 5.0
    result["masks"][0, 12:] = 7.0  # below the box
    assert _compared(result, expected).passed
    result["masks"][0, 2:10, 2:6] = -5.0
    half = _compared(result, expected)
    assert half.masks == pytest.approx(1, abs=0.02)
    assert half.iou == pytest.approx(0.5, abs=0.01)


def test_a_single_pixel_on_the_threshold_is_forgiven():
    one, other = np.zeros((2, 4, 5), bool)
    one[1, :4] = True
    other[1, :3] = True
    assert intersection_over_union(one, other) == 1
    other[1, 2] = False
    assert intersection_over_union(one, other) == 0.75
    assert intersection_over_union(np.zeros_like(one), np.zeros_like(one)) == 1


def test_merging_keeps_the_worst_of_all_images():
    limit = Tolerance(0.1, 0.1, 0.9)
    one, other = (
        InstanceParity(limit, 0.01, 0.02, 0.03, 0.99, 4, full_masks=4),
        InstanceParity(limit, 0.04, 0.01, 0.0, 0.95, 2, 1, 3),
    )
    worst = one.merge(other)
    assert worst == InstanceParity(limit, 0.04, 0.02, 0.03, 0.95, 6, 1, 7)
    assert (one.passed, other.passed, worst.passed) == (True, False, False)
    assert "6 compared, 1 without a counterpart" in str(worst)
    assert "IoU of 7 at image size 0.9500 at least" in str(worst)


@pytest.mark.parametrize("same", [6, 2, 0])
def test_if_all_scores_are_tied_only_common_instances_are_compared(expected, same):
    """As before a training: which of them are the best is chance."""
    expected["scores"][:] = 0.002
    wanted = {name: each[None] for name, each in expected.items()}
    result = {name: each.copy() for name, each in wanted.items()}
    result["boxes"][0, same:] += 0.5
    graph = Mock(outputs=tuple(wanted), return_value=[torch.from_numpy(each) for each in wanted.values()])

    def check():
        return compare_files(lambda images: result, graph, INFO, [np.zeros((64, 64, 3), np.uint8)] * 2, 1)

    found = check()
    assert (found.instances, found.full_masks, found.missing) == (2 * same, 2 * same, 0)
    assert found.passed == bool(same)
    assert ("nothing could be compared" in str(found)) == (not same)
    result["masks"] *= -1
    assert not check().passed


@pytest.mark.parametrize(("batch", "images"), [(1, 3), (2, 3)])
def test_a_file_is_run_on_every_image_in_its_own_batches(detector, batch, images):
    graph = DeployedStudent(detector, max_instances=10)
    seen = []

    def forward(images):
        seen.append(images.shape)
        with torch.no_grad():
            found = dict(zip(graph.outputs, graph(torch.from_numpy(images)), strict=True))
        return {name: each.numpy() for name, each in found.items()}

    draws = np.random.default_rng(0)
    made = [draws.integers(0, 256, (40, 64, 3), dtype=np.uint8) for _ in range(images)]
    parity = compare_files(forward, graph, INFO, made, batch)
    assert parity.passed
    assert seen == [(batch, 3, 64, 64)] * -(-images // batch)
    assert parity.instances >= 9 * images
    assert max(parity.boxes, parity.scores, parity.masks) < 1e-5
    assert parity.iou == 1
