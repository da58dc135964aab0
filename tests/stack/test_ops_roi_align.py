import functools
import math
import sys
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlign, roi_align
from torch.autograd import gradcheck

from ibkd_mm.stack.ops import roi_align as module
from ibkd_mm.stack.ops import roi_average
from ibkd_mm.stack.ops.roi_geometry import Pooling, neighbours

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

# Image, x1, y1, x2, y2 on a 9x11 map at scale 1/2: inside, over borders, whole, thin, tiny, empty, outside.
ROIS = [
    [0, 3.0, 2.0, 14.0, 11.0],
    [1, -5.0, -6.0, 9.0, 7.5],
    [0, 12.0, 9.0, 30.0, 26.0],
    [1, 0.0, 0.0, 22.0, 18.0],
    [0, 6.2, 1.0, 6.9, 17.0],
    [1, 7.3, 7.1, 7.4, 7.2],
    [0, 5.0, 5.0, 5.0, 5.0],
    [1, 90.0, 90.0, 120.0, 99.0],
    [0, -2.9, -2.9, 0.4, 0.4],
]


def bilinear_corners(y, x, height, width):
    """(row, column, weight) of the four pixels around a point; none when it is off the map."""
    if not (-1 <= y <= height and -1 <= x <= width):
        return []
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return [
        (top, left, (1 - dy) * (1 - dx)),
        (top, right, (1 - dy) * dx),
        (bottom, left, dy * (1 - dx)),
        (bottom, right, dy * dx),
    ]


def sampled_points(roi, bins, scale, sampling_ratio, aligned):
    """For every bin (row, column) of an RoI the points (y, x) that are sampled."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(c) * scale - shift for c in roi[1:])
    height, width = y2 - y1, x2 - x1
    if not aligned:
        height, width = max(height, 1.0), max(width, 1.0)
    bin_h, bin_w = height / bins[0], width / bins[1]
    rows, columns = sampling_ratio or math.ceil(bin_h), sampling_ratio or math.ceil(bin_w)
    return {
        (p, q): [
            (y1 + p * bin_h + (i + 0.5) * bin_h / rows, x1 + q * bin_w + (j + 0.5) * bin_w / columns)
            for i in range(rows)
            for j in range(columns)
        ]
        for p in range(bins[0])
        for q in range(bins[1])
    }


def plain_roi_align(features, rois, bins, scale, sampling_ratio, mode, aligned):
    """Pool (B, C, H, W) under (R, 5) into (R, C, *bins), point by point; a bin without points is zero."""
    output = features.new_zeros(len(rois), features.shape[1], *bins)
    for r, roi in enumerate(rois):
        image = features[int(roi[0])]
        for (p, q), points in sampled_points(roi, bins, scale, sampling_ratio, aligned).items():
            samples = []
            for y, x in points:
                corners = bilinear_corners(y, x, *image.shape[1:])
                samples.append(
                    sum((image[:, i, j] * w for i, j, w in corners), torch.zeros_like(image[:, 0, 0]))
                )
            if samples and mode == "avg":
                output[r, :, p, q] = sum(samples) / len(samples)
            elif samples:
                output[r, :, p, q] = functools.reduce(torch.maximum, samples)
    return output


close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def feature_map(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def through_mmcv(ext, monkeypatch):
    """mmcv's own entry, on the backend under test."""
    monkeypatch.setattr(sys.modules["mmcv.ops.roi_align"], "ext_module", ext)
    return roi_align


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_is_what_the_plain_loop_samples(through_mmcv, mode, sampling_ratio, aligned):
    features, rois = feature_map(2, 3, 9, 11), torch.tensor(ROIS, dtype=torch.float64)
    if mode == "max" and sampling_ratio == 0 and aligned:
        rois = rois[[0, 1, 2, 3, 4, 5, 7, 8]]  # without points the maximum is whatever the kernel starts from
    expected = plain_roi_align(features, rois, (2, 3), 0.5, sampling_ratio, mode, aligned)
    pooled = through_mmcv(features, rois, (2, 3), 0.5, sampling_ratio, mode, aligned)
    close(pooled, expected)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_the_gradient_is_the_exact_adjoint(through_mmcv, sampling_ratio, aligned):
    features, rois = feature_map(2, 2, 9, 11).requires_grad_(), torch.tensor(ROIS, dtype=torch.float64)
    weights = feature_map(len(ROIS), 2, 2, 3, seed=1)
    (expected,) = torch.autograd.grad(
        (plain_roi_align(features, rois, (2, 3), 0.5, sampling_ratio, "avg", aligned) * weights).sum(),
        features,
    )
    pooled = through_mmcv(features, rois, (2, 3), 0.5, sampling_ratio, "avg", aligned)
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), features)
    close(gradient, expected)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_gradcheck(through_mmcv, mode):
    features, rois = (
        feature_map(1, 2, 5, 6).requires_grad_(),
        torch.tensor([[0, 1.0, 0.5, 9.0, 8.0]]).double(),
    )
    assert gradcheck(lambda f: through_mmcv(f, rois, (2, 2), 0.5, 2, mode, True), (features,))


@settings(max_examples=30, deadline=None)
@given(
    corners=st.tuples(*[st.floats(-20, 40, width=32)] * 4),
    sampling_ratio=st.sampled_from([0, 1, 3]),
    aligned=st.booleans(),
)
def test_any_roi_agrees_with_the_plain_loop(ext, corners, sampling_ratio, aligned):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    features, rois = feature_map(1, 1, 7, 8), torch.tensor([[0, x1, y1, x2, y2]], dtype=torch.float64)
    with mock.patch.object(sys.modules["mmcv.ops.roi_align"], "ext_module", ext):
        pooled = roi_align(features, rois, (3, 2), 0.5, sampling_ratio, "avg", aligned)
    close(pooled, plain_roi_align(features, rois, (3, 2), 0.5, sampling_ratio, "avg", aligned))


def test_a_linear_ramp_is_read_off_at_the_bin_centres(through_mmcv):
    ramp = torch.arange(20.0).expand(1, 1, 20, 20).contiguous()
    pooled = through_mmcv(ramp, torch.tensor([[0.0, 4, 4, 12, 12]]), (2, 2), 1.0, 0, "avg", True)
    assert pooled[0, 0].tolist() == [[5.5, 9.5], [5.5, 9.5]]


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_rois_give_no_pooled_features_and_no_gradient(through_mmcv, mode):
    features = feature_map(1, 2, 5, 5, dtype=torch.float32).requires_grad_()
    pooled = through_mmcv(features, torch.empty(0, 5), (7, 7), 1.0, 0, mode, True)
    assert pooled.shape == (0, 2, 7, 7)
    pooled.sum().backward()
    assert not features.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_half_precision_only_rounds_the_result(portable, monkeypatch, dtype, mode):
    monkeypatch.setattr(sys.modules["mmcv.ops.roi_align"], "ext_module", portable)
    features = feature_map(2, 3, 9, 11).to(dtype).requires_grad_()
    rois = torch.tensor(ROIS[:4]).to(dtype)
    pooled = roi_align(features, rois, 2, 0.5, 0, mode, True)
    exact = roi_align(features.float(), rois.float(), 2, 0.5, 0, mode, True)
    assert torch.equal(pooled, exact.to(dtype))
    pooled.sum().backward()
    assert features.grad.dtype == dtype


def test_autocast_does_not_reach_inside(portable, monkeypatch):
    monkeypatch.setattr(sys.modules["mmcv.ops.roi_align"], "ext_module", portable)
    features, rois = feature_map(2, 3, 9, 11, dtype=torch.float32), torch.tensor(ROIS)
    plain = roi_align(features, rois, 2, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(roi_align(features, rois, 2, 0.5), plain)


def test_memory_layout_does_not_matter(portable, monkeypatch):
    monkeypatch.setattr(sys.modules["mmcv.ops.roi_align"], "ext_module", portable)
    features, rois = feature_map(2, 3, 9, 11, dtype=torch.float32), torch.tensor(ROIS)
    inside_out = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(roi_align(inside_out, rois, 2, 0.5), roi_align(features, rois, 2, 0.5))


def pool_and_differentiate(features, rois, pooling):
    pooled = roi_average.average_forward(features, rois, pooling)
    return pooled, roi_average.average_backward(pooled, rois, features.shape, pooling)


@pytest.mark.parametrize("limit", [1, 1 << 25])
def test_gathered_windows_give_what_single_ones_give(monkeypatch, limit):
    features, rois = feature_map(2, 3, 9, 11), torch.tensor(ROIS, dtype=torch.float64).repeat(3, 1)
    pooling = Pooling((3, 2), 0.5, 0, True)
    expected = pool_and_differentiate(features, rois, pooling)
    monkeypatch.setattr(roi_average, "_MAX_ELEMENTS", limit)
    monkeypatch.setattr(roi_average, "_views", lambda weights, seen: roi_average._gathered(weights, seen, 3))
    torch.testing.assert_close(pool_and_differentiate(features, rois, pooling), expected)


def test_rois_taken_a_few_at_a_time_give_the_same(monkeypatch):
    features, rois = feature_map(2, 3, 9, 11), torch.tensor(ROIS, dtype=torch.float64)
    pooling = Pooling((3, 2), 0.5, 0, False)
    expected = pool_and_differentiate(features, rois, pooling), module.max_forward(features, rois, pooling)
    monkeypatch.setattr(roi_average, "_MAX_WEIGHTS", 70)
    monkeypatch.setattr(module, "_MAX_SAMPLES", 100)
    found = pool_and_differentiate(features, rois, pooling), module.max_forward(features, rois, pooling)
    torch.testing.assert_close(found, expected)


def test_an_roi_that_reaches_far_outside_is_exact():
    features = feature_map(1, 2, 9, 11)
    rois = torch.tensor([[0, -2000.0, -900.0, 1500.0, 2600.0]], dtype=torch.float64)
    by_size = roi_average.average_forward(features, rois, Pooling((7, 7), 1.0, 0, True))
    spelled_out = roi_average.average_forward(features, rois, Pooling((7, 7), 1.0, 500, True))
    assert by_size.abs().sum() > 0
    torch.testing.assert_close(by_size, spelled_out)


def test_huge_and_infinite_rois_of_a_diverged_model_have_as_few_points_as_others(monkeypatch):
    counts = []

    def count_points(position, size):
        counts.append(position.shape[1])
        return neighbours(position, size)

    monkeypatch.setattr(roi_average, "neighbours", count_points)
    features = feature_map(1, 2, 9, 11, dtype=torch.float32)
    rois = torch.tensor([[0, -3e9, -3e9, 3e9, 3e9], [0, math.nan, 0, 5, 5], [0, 0, 0, math.inf, 5]])
    pooled = roi_average.average_forward(features, rois, Pooling((7, 7), 1.0, 0, True))
    assert counts == [7 + 2 * (9 + 3), 7 + 2 * (11 + 3)]  # vertical, horizontal
    assert not pooled[1:].any()


def test_the_module_that_configs_name_pools_alike(through_mmcv):
    features, rois = feature_map(2, 3, 9, 11, dtype=torch.float32), torch.tensor(ROIS[:5])
    layer = RoIAlign(output_size=7, spatial_scale=0.5, sampling_ratio=0)
    assert torch.equal(layer(features, rois), through_mmcv(features, rois, 7, 0.5, 0, "avg", True))


@cuda
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_gpu_pools_as_the_cpu_does(through_mmcv, mode):
    rois = torch.tensor(ROIS[:5])
    results = []
    for device in ("cpu", "cuda"):
        features = feature_map(2, 3, 9, 11, dtype=torch.float32).to(device).requires_grad_()
        pooled = through_mmcv(features, rois.to(device), 3, 0.5, 0, mode, True)
        pooled.square().sum().backward()
        results.append((pooled.detach().cpu(), features.grad.cpu()))
    torch.testing.assert_close(results[1], results[0])
