"""Instances of a query-mask transformer: its own scores, and the queries that it is sure of."""

import pytest
import torch
from mmdet.models import MaskFormerFusionHead
from torch import Tensor

from ibkd_mm.methods.ibkd import QueryInstances
from ibkd_mm.registry import MODELS

CLASSES, QUERIES, SIDE = 3, 12, 8


@pytest.fixture
def outputs() -> tuple[list[Tensor], list[Tensor]]:
    """Of two layers of the decoder, for three pictures; some queries have no mask."""
    logits = [torch.randn(3, QUERIES, CLASSES + 1) * 3 for _ in range(2)]
    masks = [torch.randn(3, QUERIES, SIDE, SIDE) * 4 for _ in range(2)]
    masks[-1][:, 0] = -1.0
    return logits, masks


def fused(logits: Tensor, masks: Tensor) -> dict[tuple[int, tuple[bool, ...]], float]:
    """What Mask2Former itself would score each class and mask of a picture."""
    head = MaskFormerFusionHead(CLASSES, 0, test_cfg={"max_per_image": QUERIES * CLASSES})
    found = head.instance_postprocess(logits, masks)
    masks_of = (tuple(mask.flatten().tolist()) for mask in found.masks)
    keys = zip(found.labels.tolist(), masks_of, strict=True)
    return dict(zip(keys, found.scores.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 0.7])
def test_scores_equal_mask2formers_own_and_those_above_the_threshold_are_kept(
    outputs: tuple[list[Tensor], list[Tensor]], threshold: float
) -> None:
    seen = QueryInstances(score_thr=threshold)(outputs)
    kept = 0
    for image in range(3):
        expected = fused(outputs[0][-1][image], outputs[1][-1][image])
        best: dict[tuple[bool, ...], float] = {}
        for (_, mask), score in expected.items():
            best[mask] = max(score, best.get(mask, 0.0))
        mine = (seen.image == image).nonzero()[:, 0].tolist()
        for one in mine:
            mask = tuple((seen.mask_logits[one] > 0).flatten().tolist())
            label = int(seen.probabilities[one].argmax())
            assert seen.scores[one].item() == pytest.approx(expected[label, mask], rel=1e-5)
            assert seen.scores[one].item() == pytest.approx(best[mask], rel=1e-5)
        # a query without a mask is no instance, whatever is enough
        assert len(mine) == sum(score > max(threshold, 0) for score in best.values())
        kept += len(mine)
    assert kept == len(seen)
    assert 0 < kept <= 3 * (QUERIES - 1)


def test_instances_lie_image_after_image_with_all_their_columns(
    outputs: tuple[list[Tensor], list[Tensor]],
) -> None:
    seen = QueryInstances(score_thr=0.3)(outputs)
    count = len(seen)
    assert seen.image.tolist() == sorted(seen.image.tolist())
    shapes = [(count, CLASSES), (count,), (count, SIDE, SIDE), (count, 4)]
    columns = seen.probabilities, seen.scores, seen.mask_logits, seen.boxes
    assert [tuple(each.shape) for each in columns] == shapes
    lacking = 1 - seen.probabilities.sum(1)
    assert (lacking > 0).all()


def test_a_query_by_hand() -> None:
    """Odds of 6 : 1 : 1 : 2 for the classes and none; half of the mask at 0.9 and an eighth at 0.8."""
    logits = torch.tensor([[[6.0, 1.0, 1.0, 2.0]]]).log()
    mask = torch.full((4, 4), 0.2)
    mask[:, :2] = 0.9
    mask[:2, 2] = 0.8
    seen = QueryInstances(score_thr=0.5, stride=4)([[logits], [mask[None, None].logit()]])
    assert seen.probabilities[0].tolist() == pytest.approx([0.6, 0.1, 0.1])
    assert seen.scores.tolist() == pytest.approx([0.6 * (8 * 0.9 + 2 * 0.8) / 10])
    # to the right the mask ends between 0.8 and 0.2: halfway between the centres, at 12 pixels
    assert seen.boxes[0].tolist() == pytest.approx([0.0, 0.0, 12.0, 16.0])


def test_boxes_bound_the_masks_within_a_cell(outputs: tuple[list[Tensor], list[Tensor]]) -> None:
    seen = QueryInstances(score_thr=0.0, stride=4)(outputs)
    for logits, box in zip(seen.mask_logits, seen.boxes, strict=True):
        rows, columns = (logits > 0).nonzero(as_tuple=True)
        cells = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 4.0
        assert (box - cells).abs().max() <= 2.0


@pytest.mark.parametrize("high", [88.0, 6e4])
def test_extremes_of_half_precision_are_finite(high: float) -> None:
    logits = (torch.randn(2, QUERIES, CLASSES + 1).sign() * high).half()
    masks = (torch.randn(2, QUERIES, SIDE, SIDE).sign() * high).half()
    seen = QueryInstances(score_thr=0.2)([[logits], [masks]])
    assert len(seen) > 0
    columns = seen.probabilities, seen.scores, seen.mask_logits, seen.boxes
    assert all(each.dtype is torch.float32 and each.isfinite().all() for each in columns)


def test_where_no_query_is_sure_there_are_none() -> None:
    blank = MODELS.build({"type": "ibkd_mm.QueryInstances"})
    seen = blank([[torch.zeros(2, QUERIES, CLASSES + 1)], [torch.randn(2, QUERIES, SIDE, SIDE)]])
    assert len(seen) == 0
    assert seen.probabilities.shape == (0, CLASSES)
    assert seen.mask_logits.shape == (0, SIDE, SIDE)
    assert seen.boxes.shape == (0, 4)


def test_of_queries_that_are_sure_of_one_instance_the_surest_speaks() -> None:
    """Three cells of four are shared: an IoU of 0.75 or, of the smaller square, of 0.5."""
    masks = torch.full((1, 5, 4, 4), -9.0)
    masks[0, 0, :2, :2] = masks[0, 1, :2, :2] = 9.0
    masks[0, 1, 0, 0] = -9.0  # three of the four: of the same, and less sure
    masks[0, 2, :2, :1] = 9.0  # half of it: another
    masks[0, 3, 2:, 2:] = masks[0, 4, 2:, 2:] = 9.0  # equals: the first
    logits = torch.tensor([[[4.0, 0, 0], [3.0, 0, 0], [0.0, 4, 0], [4.0, 0, 0], [4.0, 0, 0]]])
    seen = QueryInstances(score_thr=0.3)(([logits], [masks]))
    assert [(one > 0).sum().item() for one in seen.mask_logits] == [4, 2, 4]
    assert seen.probabilities.argmax(1).tolist() == [0, 1, 0]
    every = QueryInstances(score_thr=0.3, max_iou=1.0)(([logits], [masks]))
    assert len(every) == 5
    elsewhere = QueryInstances(score_thr=0.3)(([logits.repeat(2, 1, 1)], [masks.repeat(2, 1, 1, 1)]))
    assert elsewhere.image.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("rows", [160, 256])
def test_under_autocast_the_surest_speaks_where_cells_are_more_than_a_half_holds(rows: int) -> None:
    """Of 256 x 256 cells, an input of 1024 x 1024: areas of 40,960 add up to inf, and 65,536 are inf."""
    masks = torch.full((1, 3, 256, 256), -9.0)
    masks[0, :2, :rows] = 9.0
    masks[0, 2, : rows // 2] = 9.0  # half of it: another
    logits = torch.tensor([[[4.0, 0, 0], [3.0, 0, 0], [0.0, 4, 0]]])
    with torch.autocast("cpu", torch.float16):
        seen = QueryInstances(score_thr=0.3)(([logits], [masks]))
    assert [(one > 0).sum().item() for one in seen.mask_logits] == [rows * 256, rows // 2 * 256]
    assert seen.probabilities.argmax(1).tolist() == [0, 1]
    assert seen.scores.dtype is torch.float32
