import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms, nms, soft_nms

from ibkd_mm.stack.ops.nms import nms_sorted

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def random_boxes(count, seed=0, size=60.0, extent=300.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * extent
    boxes = torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * size], dim=1)
    return boxes, torch.rand(count, generator=generator)


def iou(a, b, offset):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a, area_b = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    union = area_a + area_b - width * height
    return width * height / union if union else math.nan


def plain_nms(boxes, scores, iou_threshold, offset):
    """Indices of kept boxes by descending score; equal scores in the order that sorting leaves them in."""
    order = torch.tensor(scores).sort(descending=True).indices.tolist()
    kept = []
    for i in order:
        if all(not iou(boxes[k], boxes[i], offset) > iou_threshold for k in kept):
            kept.append(i)
    return kept


def plain_soft_nms(boxes, scores, iou_threshold, sigma, min_score, method, offset):
    """Rows x1, y1, x2, y2, score and their indices, swapping as mmcv's kernel does."""
    items = [
        [*map(float, box), float(score), i] for i, (box, score) in enumerate(zip(boxes, scores, strict=True))
    ]
    done = 0
    while done < len(items):
        best = max(range(done, len(items)), key=lambda i: (items[i][4], -i))
        items[done], items[best] = items[best], items[done]
        at = done + 1
        while at < len(items):
            overlap = iou(items[done], items[at], offset)
            factor = {
                0: 0.0 if overlap >= iou_threshold else 1.0,
                1: 1 - overlap if overlap >= iou_threshold else 1.0,
                2: math.exp(-overlap * overlap / sigma),
            }[method]
            items[at][4] *= factor
            if items[at][4] < min_score:
                last = items.pop()
                if at < len(items):
                    items[at] = last
            else:
                at += 1
        done += 1
    return [item[:5] for item in items], [item[5] for item in items]


@st.composite
def whole_boxes(draw, distinct_scores=False):
    """Boxes on a small grid: equal boxes, empty boxes and overlaps of exactly the threshold are common."""
    coordinate = st.integers(0, 12)
    corners = draw(
        st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=25)
    )
    boxes = torch.tensor([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]).float()
    if distinct_scores:
        ranks = draw(st.permutations(range(len(corners))))
    else:
        ranks = draw(st.lists(st.integers(0, 4), min_size=len(corners), max_size=len(corners)))
    return boxes, (torch.tensor(ranks).float() + 1) / 32


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_nms_keeps_what_the_plain_loop_keeps(ext, offset, threshold):
    boxes, scores = random_boxes(200)
    kept = ext.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    assert kept.dtype == torch.long
    assert kept.tolist() == plain_nms(boxes.double().tolist(), scores.tolist(), threshold, offset)


@settings(max_examples=60, deadline=None)
@given(
    data=whole_boxes(), offset=st.sampled_from([0, 1]), threshold=st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.7])
)
def test_nms_agrees_on_ties_empty_boxes_and_overlaps_of_exactly_the_threshold(ext, data, offset, threshold):
    boxes, scores = data
    kept = ext.nms(boxes, scores, iou_threshold=threshold, offset=offset).tolist()
    assert kept == plain_nms(boxes.tolist(), scores.tolist(), threshold, offset)


@settings(max_examples=40, deadline=None)
@given(data=whole_boxes(), threshold=st.sampled_from([0.1, 0.5, 0.8]))
def test_kept_boxes_are_apart_and_each_suppressed_one_overlaps_a_better_kept_one(data, threshold):
    boxes, scores = data
    kept = nms(boxes, scores, threshold)[1].tolist()
    rows = boxes.tolist()
    above = [[iou(a, b, 0) > threshold for b in rows] for a in rows]
    assert not any(above[i][j] for i in kept for j in kept if i != j)
    for lost in set(range(len(rows))) - set(kept):
        assert any(above[k][lost] and scores[k] >= scores[lost] for k in kept)


@settings(max_examples=40, deadline=None)
@given(data=whole_boxes(distinct_scores=True), seed=st.integers(0, 99))
def test_the_order_of_the_input_does_not_matter(data, seed):
    boxes, scores = data
    shuffle = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
    kept = nms(boxes, scores, 0.4)[1]
    kept_shuffled = shuffle[nms(boxes[shuffle], scores[shuffle], 0.4)[1]]
    assert kept.tolist() == kept_shuffled.tolist()


def test_many_blocks_agree_with_one(monkeypatch):
    boxes = random_boxes(500)[0]
    one = nms_sorted(boxes, 0.5, 0)
    monkeypatch.setattr("ibkd_mm.stack.ops.nms._BLOCK_CPU", 7)
    assert torch.equal(nms_sorted(boxes, 0.5, 0), one)


def test_a_long_chain_of_suppression_is_followed_to_its_end():
    x = torch.arange(300.0)[:, None]
    boxes = torch.cat([x, torch.zeros_like(x), x + 3, torch.ones_like(x)], dim=1)
    scores = torch.linspace(1, 0.1, 300)
    assert nms(boxes, scores, 0.4)[1].tolist() == list(range(0, 300, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nms_of_other_precisions_computes_in_at_least_float32(portable, dtype):
    boxes, scores = random_boxes(150)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    kept = portable.nms(boxes, scores, 0.5, 0)
    assert kept.tolist() == plain_nms(boxes.double().tolist(), scores.double().tolist(), 0.5, 0)


def test_nms_of_nothing_is_nothing(ext):
    kept = ext.nms(torch.empty(0, 4), torch.empty(0), iou_threshold=0.5, offset=0)
    assert kept.shape == (0,)
    assert kept.dtype == torch.long


def test_boxes_that_are_not_numbers_neither_suppress_nor_hang(portable):
    boxes, scores = random_boxes(20)
    boxes[3] = torch.nan
    assert 3 in portable.nms(boxes, scores, 0.5, 0).tolist()


def test_mmcv_nms_filters_by_score_and_number():
    boxes, scores = random_boxes(100)
    all_kept = plain_nms(boxes.tolist(), scores.tolist(), 0.5, 0)
    dets, kept = nms(boxes, scores, 0.5, score_threshold=0.3, max_num=10)
    assert kept.tolist() == [i for i in all_kept if scores[i] > 0.3][:10]
    assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], dim=1))
    dets_array, _ = nms(boxes.numpy(), scores.numpy(), 0.5, score_threshold=0.3, max_num=10)
    np.testing.assert_array_equal(dets_array, dets.numpy())


@pytest.mark.parametrize("split_thr", [10000, 50])
def test_batched_nms_suppresses_within_a_class_only(split_thr):
    boxes, scores = random_boxes(120)
    labels = torch.arange(120) % 3
    dets, kept = batched_nms(
        boxes, scores, labels, {"type": "nms", "iou_threshold": 0.3, "split_thr": split_thr}
    )
    expected = []
    for label in range(3):
        own = (labels == label).nonzero()[:, 0]
        inside = plain_nms(boxes[own].tolist(), scores[own].tolist(), 0.3, 0)
        expected += own[inside].tolist()
    assert kept.tolist() == sorted(expected, key=lambda i: -scores[i])
    assert torch.equal(dets[:, 4], scores[kept])


@pytest.mark.parametrize("method", [0, 1, 2], ids=["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
def test_soft_nms_decays_as_the_plain_loop_does(ext, method, offset):
    boxes, scores = random_boxes(80)
    dets = torch.full((80, 5), -7.0)
    kept = ext.softnms(
        boxes, scores, dets, iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method, offset=offset
    )
    rows, indices = plain_soft_nms(boxes.tolist(), scores.tolist(), 0.3, 0.5, 0.05, method, offset)
    assert kept.tolist() == indices
    torch.testing.assert_close(dets[: len(kept)], torch.tensor(rows))


@settings(max_examples=40, deadline=None)
@given(data=whole_boxes(), method=st.sampled_from([0, 1]), min_score=st.sampled_from([0.0, 0.04, 0.2]))
def test_soft_nms_agrees_on_who_goes_first_among_equals(ext, data, method, min_score):
    boxes, scores = data
    dets = torch.zeros(len(boxes), 5)
    kept = ext.softnms(boxes, scores, dets, 0.25, 0.5, min_score, method, 1)
    rows, indices = plain_soft_nms(boxes.tolist(), scores.tolist(), 0.25, 0.5, min_score, method, 1)
    assert kept.tolist() == indices
    torch.testing.assert_close(dets[: len(kept)], torch.tensor(rows))


def test_mmcv_soft_nms_returns_boxes_with_decayed_scores():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
    dets, kept = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.5]), iou_threshold=0.3, method="linear")
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.5, 0.4]))
    dets, kept = soft_nms(boxes[:0], torch.empty(0))
    assert dets.shape == (0, 5)
    assert len(kept) == 0


@cuda
def test_nms_on_a_gpu_keeps_what_the_cpu_keeps():
    boxes, scores = random_boxes(3000)
    expected = nms(boxes, scores, 0.5)[1]
    assert torch.equal(nms(boxes.cuda(), scores.cuda(), 0.5)[1].cpu(), expected)
    order = scores.sort(descending=True).indices
    assert torch.equal(order[nms_sorted(boxes[order].cuda(), 0.5, 0).cpu()], expected)
