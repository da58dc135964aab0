"""What is added to the ground truth: what the teacher is sure of and nobody annotated, and nothing else."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ibkd_mm.distill import ExtraTargets
from ibkd_mm.errors import UserError

STRIDE, SIDE = 4, 8


def square(top: int, left: int, side: int = 3) -> Tensor:
    cells = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    cells[top : top + side, left : left + side] = 1
    return cells


def sample(*cells: Tensor, width: int = SIDE) -> DetDataSample:
    masks = torch.stack(cells)[:, :, :width] if cells else torch.zeros(0, SIDE, width, dtype=torch.uint8)
    instances = InstanceData(
        bboxes=torch.arange(4.0 * len(cells)).reshape(-1, 4),
        labels=torch.zeros(len(cells), dtype=torch.long),
        mask_cells=masks * STRIDE**2,
    )
    meta = {"img_shape": (SIDE * STRIDE, width * STRIDE), "img_id": 7}
    return DetDataSample(gt_instances=instances, metainfo=meta)


def logits(*cells: Tensor) -> Tensor:
    return torch.stack([20.0 * each - 10 for each in cells])


@pytest.fixture
def extended(seen: Callable) -> Callable[..., list[DetDataSample]]:
    """Two pictures: one with an instance and narrower, one with none. The teacher saw four."""

    def extend(samples: list[DetDataSample], **settings: Any) -> list[DetDataSample]:
        teacher = seen(
            [0, 0, 1, 1],
            logits(square(0, 0), square(5, 1), square(2, 4), square(4, 0)),
            probabilities=[[0.9, 0.05], [0.1, 0.8], [0.7, 0.2], [0.3, 0.6]],
            scores=[0.9, 0.8, 0.7, 0.4],
        )
        return ExtraTargets(**settings)(samples, teacher, (SIDE * STRIDE, SIDE * STRIDE))

    return extend


def test_exactly_the_sure_ones_that_nobody_annotated_are_added(extended: Callable) -> None:
    # the first is the annotated one again, the last is not sure enough
    longer = extended([sample(square(0, 0), width=6), sample()])
    first, second = (each.gt_instances for each in longer)
    assert first.labels.tolist() == [0, 1]
    assert first.bboxes.tolist() == [[0.0, 1.0, 2.0, 3.0], [4.0, 20.0, 16.0, 32.0]]
    assert first.mask_cells.dtype == torch.uint8
    assert torch.equal(first.mask_cells, torch.stack([square(0, 0), square(5, 1)])[:, :, :6] * 16)
    assert second.labels.tolist() == [0]
    assert second.bboxes.tolist() == [[16.0, 8.0, 28.0, 20.0]]
    assert torch.equal(second.mask_cells, square(2, 4)[None] * 16)
    assert [each.metainfo for each in longer] == [sample(width=6).metainfo, sample().metainfo]


def test_the_samples_given_stay_as_they_are(extended: Callable) -> None:
    given = [sample(square(0, 0)), sample()]
    before = copy.deepcopy(given)
    longer = extended(given)
    assert longer[0] is not given[0]
    for own, other in zip(given, before, strict=True):
        assert own.metainfo == other.metainfo
        for name in ("bboxes", "labels", "mask_cells"):
            assert torch.equal(own.gt_instances[name], other.gt_instances[name])


def test_a_picture_with_nothing_to_add_is_handed_on(extended: Callable) -> None:
    given = [sample(square(0, 0)), sample()]
    assert extended(given, score_thr=0.8)[1] is given[1]


def test_the_threshold_is_what_the_score_must_exceed(extended: Callable) -> None:
    samples = [sample(square(0, 0)), sample()]
    counts = {
        least: [len(each.gt_instances) for each in extended(samples, score_thr=least)]
        for least in (0.39, 0.75)
    }
    assert counts == {0.39: [2, 2], 0.75: [2, 0]}


def test_an_overlap_below_the_most_is_another_instance(extended: Callable) -> None:
    # of 9 and 9 cells 6 are both's: an IoU of a half
    samples = [sample(square(1, 0)), sample()]
    labels = {
        most: extended(samples, most_overlap=most)[0].gt_instances.labels.tolist() for most in (0.5, 0.51)
    }
    assert labels == {0.5: [0, 1], 0.51: [0, 0, 1]}


def test_masks_that_are_not_counted_yet_are_asked_for(extended: Callable) -> None:
    bare = sample(square(0, 0))
    del bare.gt_instances.mask_cells
    with pytest.raises(UserError, match="MaskCells at the end of the train pipeline"):
        extended([bare, sample()])


def test_the_student_learns_what_was_added(
    distilled: Callable, recipe: Callable, batch: Callable, losses_of: Callable
) -> None:
    asked = {"recorder": "whole", "from_student": False, "connector": "instances"}
    added = {"type": "ibkd_mm.ExtraTargets", "score_thr": 0.0, "most_overlap": 0.99, "teacher": asked}
    model = distilled(distiller={**recipe(), "extra_targets": added})
    steps: list[Any] = []
    model.architecture.bbox_head.criteria["one_to_many"].register_forward_hook(
        lambda _, __, step: steps.append(step)
    )
    teacher: list[Any] = []
    model.distiller.connectors["instances"].register_forward_hook(lambda _, __, out: teacher.append(out))
    data = batch()
    losses_of(model, data)
    (step,), (found,) = steps, teacher
    assert len(found) > 0
    assert len(step.truth.image) == 3 + len(found)
    assert [len(each.gt_instances) for each in data["data_samples"]] == [1, 2]
