"""What is added to the ground truth: what the teacher is sure of and nobody annotated, and nothing else."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ibkd_mm.distill import DistillScheduleHook
from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd import ExtraTargets

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
def with_extra_targets(seen: Callable) -> Callable[..., list[DetDataSample]]:
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


def test_exactly_the_sure_ones_that_nobody_annotated_are_added(with_extra_targets: Callable) -> None:
    # the first is the annotated one again, the last is not sure enough
    longer = with_extra_targets([sample(square(0, 0), width=6), sample()])
    first, second = (each.gt_instances for each in longer)
    assert first.labels.tolist() == [0, 1]
    assert first.bboxes.tolist() == [[0.0, 1.0, 2.0, 3.0], [4.0, 20.0, 16.0, 32.0]]
    assert first.mask_cells.dtype == torch.uint8
    assert torch.equal(first.mask_cells, torch.stack([square(0, 0), square(5, 1)])[:, :, :6] * 16)
    assert second.labels.tolist() == [0]
    assert second.bboxes.tolist() == [[16.0, 8.0, 28.0, 20.0]]
    assert torch.equal(second.mask_cells, square(2, 4)[None] * 16)
    assert [each.metainfo for each in longer] == [sample(width=6).metainfo, sample().metainfo]


def test_the_samples_given_stay_as_they_are(with_extra_targets: Callable) -> None:
    given = [sample(square(0, 0)), sample()]
    before = copy.deepcopy(given)
    longer = with_extra_targets(given)
    assert longer[0] is not given[0]
    for own, other in zip(given, before, strict=True):
        assert own.metainfo == other.metainfo
        for name in ("bboxes", "labels", "mask_cells"):
            assert torch.equal(own.gt_instances[name], other.gt_instances[name])


def test_a_picture_with_nothing_to_add_is_handed_on(with_extra_targets: Callable) -> None:
    given = [sample(square(0, 0)), sample()]
    assert with_extra_targets(given, score_thr=0.8)[1] is given[1]


def test_the_threshold_is_what_the_score_must_exceed(with_extra_targets: Callable) -> None:
    samples = [sample(square(0, 0)), sample()]
    counts = {
        least: [len(each.gt_instances) for each in with_extra_targets(samples, score_thr=least)]
        for least in (0.39, 0.75)
    }
    assert counts == {0.39: [2, 2], 0.75: [2, 0]}


def test_an_overlap_below_the_most_is_another_instance(with_extra_targets: Callable) -> None:
    # of 9 and 9 cells 6 are both's: an IoU of a half
    samples = [sample(square(1, 0)), sample()]
    labels = {
        most: with_extra_targets(samples, max_iou=most)[0].gt_instances.labels.tolist()
        for most in (0.5, 0.51)
    }
    assert labels == {0.5: [0, 1], 0.51: [0, 0, 1]}


def test_under_autocast_more_cells_are_counted_than_a_half_holds(seen: Callable) -> None:
    """Of 512 x 512 cells 129 rows are annotated, 66,048 cells: an IoU of 0.252 with what the teacher saw."""
    side = 512
    cells = torch.zeros(1, side, side, dtype=torch.uint8)
    cells[0, :129] = STRIDE**2
    own = InstanceData(bboxes=torch.zeros(1, 4), labels=torch.zeros(1, dtype=torch.long), mask_cells=cells)
    given = DetDataSample(gt_instances=own, metainfo={"img_shape": (side * STRIDE, side * STRIDE)})
    teacher = seen([0], torch.full((1, side, side), 9.0))
    counts = []
    for most in (0.3, 0.25):
        with torch.autocast("cpu", torch.float16):
            (longer,) = ExtraTargets(max_iou=most)([given], teacher, (side * STRIDE, side * STRIDE))
        counts.append(len(longer.gt_instances))
    assert counts == [2, 1]


def test_masks_that_are_not_counted_yet_are_asked_for(with_extra_targets: Callable) -> None:
    bare = sample(square(0, 0))
    del bare.gt_instances.mask_cells
    with pytest.raises(UserError, match="MaskCells at the end of the train pipeline"):
        with_extra_targets([bare, sample()])


def test_a_teacher_of_other_classes_is_refused(with_extra_targets: Callable, seen: Callable) -> None:
    adding = ExtraTargets()
    adding.attach(SimpleNamespace(bbox_head=SimpleNamespace(num_classes=3)))  # type: ignore[arg-type]
    teacher = seen([0], torch.full((1, 4, 4), 9.0))
    with pytest.raises(UserError, match="The student has 3 classes and its teacher 2"):
        adding([sample()], teacher, (16, 16))


@pytest.fixture
def adding(distilled: Callable, recipe: Callable) -> Any:
    """A distillation that adds nearly all that its teacher sees."""
    asked = {"recorder": "whole", "from_student": False, "connector": "instances"}
    added = {"type": "ibkd_mm.ExtraTargets", "score_thr": 0.0, "max_iou": 0.99, "teacher": asked}
    return distilled(distiller={**recipe(), "extra_targets": added})


def recorded(model: Any) -> list[Any]:
    """Collect the steps of the student's branch, which know the truth that it learnt from."""
    steps: list[Any] = []
    model.architecture.bbox_head.criteria["one_to_many"].register_forward_hook(
        lambda _, __, step: steps.append(step)
    )
    return steps


def test_the_student_learns_what_was_added(adding: Any, batch: Callable, losses_of: Callable) -> None:
    model, steps, teacher = adding, recorded(adding), []
    model.distiller.connectors["instances"].register_forward_hook(lambda _, __, out: teacher.append(out))
    data = batch()
    losses_of(model, data)
    (step,), (found,) = steps, teacher
    assert len(found) > 0
    assert len(step.truth.image) == 3 + len(found)
    assert [len(each.gt_instances) for each in data["data_samples"]] == [1, 2]


@pytest.mark.parametrize(
    ("schedules", "added", "ran"),
    [
        # a hundredth of a factor adds whole targets: truth cannot be scaled
        ({"all": {"warmup": 100, "stop": 5}}, {0: True, 4: True, 5: False}, [0, 4]),
        ({"extra_targets": {"stop": 0.4}}, {3: True, 4: False}, [3, 4]),
        ({"all": {"stop": 4}, "extra_targets": {}}, {3: True, 4: True}, [3, 4]),
    ],
)
def test_a_schedule_turns_them_on_and_off_and_the_teacher_with_the_last_of_all(
    adding: Any,
    batch: Callable,
    losses_of: Callable,
    schedules: dict[str, Any],
    added: dict[int, bool],
    ran: list[int],
) -> None:
    """All of the teacher's join 3 true ones; of ten steps only these are taken, as after a resume."""
    steps, running, seen = recorded(adding), [], []
    runner: Any = SimpleNamespace(hooks=[], model=adding, iter=0, max_iters=10)
    adding.teacher.register_forward_pre_hook(lambda *_: running.append(runner.iter))
    adding.distiller.connectors["instances"].register_forward_hook(lambda _, __, out: seen.append(len(out)))
    hook = DistillScheduleHook(schedules)
    hook.before_train(runner)
    found = {}
    for runner.iter in added:
        hook.before_train_iter(runner)
        losses_of(adding, batch())
        found[runner.iter] = len(steps[-1].truth.image)
    assert seen[0] > 0
    assert found == {place: 3 + on * seen[0] for place, on in added.items()}
    assert running == ran


def test_once_they_and_all_losses_have_stopped_a_step_is_the_plain_students(
    adding: Any, distilled: Callable, recipe: Callable, batch: Callable, losses_of: Callable
) -> None:
    plain = distilled(distiller=recipe())
    plain.load_state_dict(adding.state_dict())
    for model in (adding, plain):
        model.distiller.factors = dict.fromkeys(model.distiller.factors, 0.0)
    assert not adding.distiller.active
    found, expected = losses_of(adding, batch()), losses_of(plain, batch())
    assert found.keys() == expected.keys()
    assert all(torch.equal(one, expected[name]) for name, one in found.items())


def test_without_them_the_teacher_ends_with_the_last_record_of_a_loss(
    adding: Any, batch: Callable, losses_of: Callable
) -> None:
    made: list[Any] = []
    adding.distiller.connectors["instances"].register_forward_hook(lambda *_: made.append(1))
    adding.distiller.factors.update(extra_targets=0.0, loss_instance=0.0)
    assert "distill.loss_cfb" in losses_of(adding, batch())
    assert not made


def test_where_none_are_asked_for_a_schedule_of_them_is_refused(distilled: Callable) -> None:
    hook = DistillScheduleHook({"extra_targets": {"stop": 5}})
    with pytest.raises(UserError, match="no loss 'extra_targets'"):
        hook.before_train(SimpleNamespace(model=distilled(), iter=0, max_iters=10, hooks=[]))  # type: ignore[arg-type]
