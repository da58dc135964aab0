"""The batched assignment against one of plain loops, and cases worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from ibkd_mm.registry import TASK_UTILS
from ibkd_mm.yolov10 import Assignment, GroundTruth
from ibkd_mm.yolov10.anchors import make_anchors
from ibkd_mm.yolov10.assigner import pairs_inside

ALPHA, BETA = 0.5, 6.0
Found = dict[tuple[int, int], tuple[int, float]]
"""Image and anchor -> instance and score."""


def assign(class_logits: Tensor, boxes: Tensor, truth: GroundTruth, anchors: Tensor, topk: int) -> Assignment:
    assigner = TASK_UTILS.build(
        {"type": "ibkd_mm.TaskAlignedAssigner", "topk": topk, "alpha": ALPHA, "beta": BETA}
    )
    return assigner(class_logits, boxes, truth, pairs_inside(anchors[:, :2], truth))


def as_dict(assigned: Assignment) -> Found:
    image, anchor, instance, score = (part.tolist() for part in assigned)
    found = {(b, a): (t, s) for b, a, t, s in zip(image, anchor, instance, score, strict=True)}
    assert len(found) == len(image)  # no anchor twice
    return found


def loop_iou(box: list[float], other: list[float]) -> float:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = box, other
    inter = max(min(ax2, bx2) - max(ax1, bx1), 0) * max(min(ay2, by2) - max(ay1, by1), 0)
    areas = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1)
    iou = inter / (areas - inter + 1e-7)
    diagonal = (max(ax2, bx2) - min(ax1, bx1)) ** 2 + (max(ay2, by2) - min(ay1, by1)) ** 2
    distance = ((ax1 + ax2 - bx1 - bx2) ** 2 + (ay1 + ay2 - by1 - by2) ** 2) / 4
    angles = [math.atan((x2 - x1) / (y2 - y1 + 1e-7)) for x1, y1, x2, y2 in (box, other)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return max(iou - distance / (diagonal + 1e-7) - aspect**2 / (1 - iou + aspect + 1e-7), 0.0)


def loops(class_logits: Tensor, boxes: Tensor, truth: GroundTruth, anchors: Tensor, topk: int) -> Found:
    """One instance, one anchor at a time."""
    claims: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    for t in range(len(truth.boxes)):
        b, label, (x1, y1, x2, y2) = truth.image[t].item(), truth.labels[t].item(), truth.boxes[t].tolist()
        fits = []
        for a, (x, y, _) in enumerate(anchors.tolist()):
            if x1 < x < x2 and y1 < y < y2:
                score = 1 / (1 + math.exp(-class_logits[b, label, a].item()))
                iou = loop_iou(boxes[b, a].tolist(), [x1, y1, x2, y2])
                if score**ALPHA * iou**BETA > 0:
                    fits.append((score**ALPHA * iou**BETA, iou, a))
        for fit, iou, a in sorted(fits, reverse=True)[:topk]:
            claims.setdefault((b, a), []).append((iou, fit, t))
    owners = {place: max(wanting) for place, wanting in claims.items()}
    found = {}
    for place, (_, fit, t) in owners.items():
        mine = [(f, i) for i, f, owner in owners.values() if owner == t]
        found[place] = (t, fit / max(f for f, _ in mine) * max(i for _, i in mine))
    return found


def scene(seed: int, instances: tuple[int, ...]) -> tuple[Tensor, Tensor, GroundTruth, Tensor]:
    """Random predictions around random instances in images of 64 x 96."""
    torch.manual_seed(seed)
    anchors = make_anchors([torch.empty(1, 1, 64 // s, 96 // s) for s in (8, 16, 32)], (8, 16, 32))
    total, batch = sum(instances), len(instances)
    size = torch.rand(total, 2) * torch.tensor([90.0, 60.0]) + 4
    corner = torch.rand(total, 2) * (torch.tensor([96.0, 64.0]) - size).clamp(min=0)
    truth = GroundTruth(
        torch.arange(batch).repeat_interleave(torch.tensor(instances)),
        torch.cat([corner, corner + size], dim=1),
        torch.randint(0, 3, (total,)),
        None,
        4,
    )
    reach = torch.rand(batch, len(anchors), 4) * 45 + 1
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    boxes = anchors[:, [0, 1, 0, 1]] + signs * reach
    return torch.randn(batch, 3, len(anchors)) * 2, boxes, truth, anchors


@pytest.mark.parametrize("topk", [1, 3, 10])
@pytest.mark.parametrize("seed", range(8))
def test_equals_loops_on_random_scenes(seed: int, topk: int) -> None:
    parts = scene(seed, ((4, 9, 2), (0, 5), (1, 0, 12, 3), (20,))[seed % 4])
    found, expected = as_dict(assign(*parts, topk)), loops(*parts, topk)
    assert expected
    assert {place: t for place, (t, _) in found.items()} == {place: t for place, (t, _) in expected.items()}
    for place, (_, score) in expected.items():
        assert found[place][1] == pytest.approx(score, rel=1e-3, abs=1e-7)


def test_one_image_is_assigned_alike_alone_and_in_a_batch() -> None:
    logits, boxes, truth, anchors = scene(3, (6, 4, 8))
    together = as_dict(assign(logits, boxes, truth, anchors, 10))
    for b in range(3):
        mine = truth.image == b
        alone = GroundTruth(
            torch.zeros(int(mine.sum())).long(), truth.boxes[mine], truth.labels[mine], None, 4
        )
        first = int(mine.nonzero()[0])
        found = as_dict(assign(logits[b : b + 1], boxes[b : b + 1], alone, anchors, 10))
        expected = {(0, a): (t - first, s) for (image, a), (t, s) in together.items() if image == b}
        assert {place: t for place, (t, _) in found.items()} == {
            place: t for place, (t, _) in expected.items()
        }


def hand(boxes: list[list[float]], labels: list[int]) -> GroundTruth:
    count = len(boxes)
    return GroundTruth(torch.zeros(count).long(), torch.tensor(boxes), torch.tensor(labels), None, 4)


ROW = torch.tensor([[4.0, 4.0, 8.0], [12.0, 4.0, 8.0], [20.0, 4.0, 8.0], [28.0, 4.0, 8.0]])


def test_scores_by_hand() -> None:
    """Two anchors in one box, of the same shape and centre, that overlap it whole and by a quarter."""
    truth = hand([[0.0, 0.0, 16.0, 8.0]], [1])
    boxes = torch.tensor([[[0.0, 0, 16, 8], [4.0, 2, 12, 6], [0.0, 0, 16, 8], [0.0, 0, 16, 8]]])
    logits = torch.zeros(1, 2, 4)
    found = as_dict(assign(logits, boxes, truth, ROW, 10))
    # anchors 2 and 3 are outside; scores are 1/2, so the fit goes by IoU^6
    assert set(found) == {(0, 0), (0, 1)}
    assert found[0, 0] == (0, pytest.approx(1.0, abs=1e-5))
    assert found[0, 1] == (0, pytest.approx(0.25**6, rel=1e-3))


def test_a_better_score_can_win_over_a_better_box() -> None:
    truth = hand([[0.0, 0.0, 16.0, 8.0]], [0])
    boxes = torch.tensor([[[0.0, 0, 16, 8], [0.0, 0, 15.6, 8], [0.0, 0, 1, 1], [0.0, 0, 1, 1]]])
    logits = torch.tensor([[[-3.0, 0.0, 0.0, 0.0]]])
    assert [place for place, _ in as_dict(assign(logits, boxes, truth, ROW, 1)).items()] == [(0, 1)]
    assert [place for place, _ in as_dict(assign(torch.zeros(1, 1, 4), boxes, truth, ROW, 1)).items()] == [
        (0, 0)
    ]


def test_an_anchor_that_two_want_goes_to_the_one_it_overlaps_most() -> None:
    """The second fits better by its class score, but overlap decides."""
    truth = hand([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0]], [0, 1])
    boxes = torch.tensor([[[0.0, 0, 8, 8]]])
    logits = torch.tensor([[[-4.0], [4.0]]])
    assert as_dict(assign(logits, boxes, truth, ROW[:1], 10)) == {(0, 0): (0, pytest.approx(1.0, abs=1e-5))}


def test_of_two_instances_in_the_same_box_the_first_gets_the_anchor() -> None:
    truth = hand([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 8.0]], [0, 0])
    found = as_dict(assign(torch.zeros(1, 1, 1), torch.tensor([[[0.0, 0, 8, 8]]]), truth, ROW[:1], 1))
    assert found == {(0, 0): (0, pytest.approx(1.0, abs=1e-5))}


@pytest.mark.parametrize("side", range(4))
def test_the_centre_must_be_strictly_inside(side: int) -> None:
    boxes = torch.tensor([[[0.0, 0, 8, 8]]])
    outwards = -1 if side < 2 else 1
    for edge, count in ((4.0, 0), (4.0 + 0.001 * outwards, 1)):
        target = [0.0, 0.0, 8.0, 8.0]
        target[side] = edge
        assert len(assign(torch.zeros(1, 1, 1), boxes, hand([target], [0]), ROW[:1], 10).image) == count


def test_anchors_without_overlap_are_not_assigned() -> None:
    truth = hand([[0.0, 0.0, 8.0, 8.0]], [0])
    boxes = torch.tensor([[[40.0, 40, 44, 44]]])
    assert len(assign(torch.zeros(1, 1, 1), boxes, truth, ROW[:1], 10).image) == 0


@pytest.mark.parametrize("instances", [(0,), (0, 0, 0)])
def test_nothing_to_find_is_no_assignment(instances: tuple[int, ...]) -> None:
    assigned = assign(*scene(0, instances), 10)
    assert [len(part) for part in assigned] == [0, 0, 0, 0]


def test_an_instance_smaller_than_the_cells_may_have_no_anchor() -> None:
    logits, boxes, _, anchors = scene(0, (1,))
    assert len(assign(logits, boxes, hand([[9.0, 9.0, 10.0, 10.0]], [0]), anchors, 10).image) == 0
