"""The two branches: where they start, what each trains, what is recorded of them, and what is predicted."""

import math
from collections.abc import Callable

import pytest
import torch
from mmdet.structures import DetDataSample
from mmrazor.registry import TASK_UTILS
from torch import nn

from ibkd_mm.yolov10 import BranchStep, HeadOutputs

SIZE = (64, 96)
LOSSES = ("loss_cls", "loss_bbox", "loss_dfl", "loss_mask")


@pytest.fixture(scope="module")
def model(student: Callable) -> nn.Module:
    return student(classes=2)


@pytest.fixture
def batch(sample: Callable) -> tuple[torch.Tensor, list[DetDataSample]]:
    samples = [
        sample([[4, 6, 40, 50], [30, 2, 90, 30]], [0, 1], SIZE),
        sample([], [], SIZE),
        sample([[10, 10, 70, 60]], [1], SIZE),
    ]
    return torch.rand(3, 3, *SIZE), samples


@pytest.mark.parametrize(
    ("classes", "biases"), [(80, (-11.5366, -10.1503, -8.7641)), (1, (-7.1546, -5.7683, -4.3820))]
)
def test_scores_start_from_the_published_chances(
    student: Callable, classes: int, biases: tuple[float, ...]
) -> None:
    head = student(classes=classes).bbox_head
    for branch in (head.one_to_many, head.one_to_one):
        for tower, stride, bias in zip(branch.class_towers, (8, 16, 32), biases, strict=True):
            assert bias == pytest.approx(math.log(5 / classes / (640 / stride) ** 2), abs=1e-4)
            assert torch.allclose(tower[-1].bias, torch.tensor(bias), atol=1e-4)
        assert all((tower[-1].bias == 1).all() for tower in branch.box_towers)


def test_both_branches_start_alike_and_share_nothing(model: nn.Module) -> None:
    many, one = model.bbox_head.one_to_many.state_dict(), model.bbox_head.one_to_one.state_dict()
    assert many.keys() == one.keys()
    for name, value in many.items():
        assert torch.equal(value, one[name])
        assert value.data_ptr() != one[name].data_ptr()


def trained(module: nn.Module) -> set[bool]:
    return {p.grad is not None and bool(p.grad.any()) for p in module.parameters() if p.requires_grad}


def test_each_branch_trains_what_it_should(model: nn.Module, batch: tuple) -> None:
    """The trunk and the prototypes learn from the one-to-many branch alone."""
    head = model.bbox_head
    shared = [model.backbone, model.neck, head.prototypes]
    for name, own, other in (
        ("one_to_one", head.one_to_one, head.one_to_many),
        ("one_to_many", head.one_to_many, head.one_to_one),
    ):
        model.zero_grad()
        losses = model(*batch, mode="loss")
        sum(losses[f"{name}.{key}"] for key in LOSSES).backward()
        assert True in trained(own)
        assert trained(other) == {False}
        for module in shared:
            assert (True in trained(module)) == (name == "one_to_many")


def test_every_parameter_has_a_gradient_even_where_there_is_nothing_to_find(
    model: nn.Module, batch: tuple, sample: Callable
) -> None:
    """Otherwise parallel training would wait for it, or need `find_unused_parameters`."""
    images, _ = batch
    model.zero_grad()
    losses = model(images, [sample([], [], SIZE)] * 3, mode="loss")
    sum(losses.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_losses_are_named_by_branch(model: nn.Module, student: Callable, batch: tuple) -> None:
    expected = [f"{branch}.{loss}" for branch in ("one_to_many", "one_to_one") for loss in LOSSES]
    losses = model(*batch, mode="loss")
    assert list(losses) == expected
    total, log = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(loss.item() for loss in losses.values()))
    assert set(log) == {*expected, "loss"}
    boxes_alone = student(classes=2, masks=False)(*batch, mode="loss")
    assert list(boxes_alone) == [name for name in expected if not name.endswith("mask")]


def test_boxes_alone_need_no_masks(student: Callable, batch: tuple) -> None:
    images, samples = batch
    for each in samples:
        del each.gt_instances.masks
    losses = student(classes=2, masks=False)(images, samples, mode="loss")
    assert all(loss.isfinite() for loss in losses.values())


def test_a_recorder_picks_up_the_step(model: nn.Module, batch: tuple) -> None:
    sources = ("criteria.one_to_many", "criteria.one_to_one", "prototypes.refine", "one_to_one")
    recorders = {
        source: TASK_UTILS.build({"type": "ModuleOutputsRecorder", "source": f"bbox_head.{source}"})
        for source in sources
    }
    for recorder in recorders.values():
        recorder.initialize(model)
    with recorders[sources[0]], recorders[sources[1]], recorders[sources[2]], recorders[sources[3]]:
        losses = model(*batch, mode="loss")
    for name in ("one_to_many", "one_to_one"):
        step = recorders[f"criteria.{name}"].get_record_data()
        assert isinstance(step, BranchStep)
        assert all(losses[f"{name}.{key}"] is loss for key, loss in step.losses.items())
        assert step.truth.image.tolist() == [0, 0, 2]
        assert step.outputs.prototypes.requires_grad == (name == "one_to_many")
    assert recorders["prototypes.refine"].get_record_data().shape == (3, 64, 16, 24)
    raw = recorders["one_to_one"].get_record_data()
    assert isinstance(raw, HeadOutputs)
    assert torch.equal(raw.class_logits, step.outputs.class_logits)


def test_a_crowd_of_five_hundred_trains(model: nn.Module, sample: Callable) -> None:
    torch.manual_seed(0)
    corner = torch.rand(500, 2) * torch.tensor([80.0, 48.0])
    boxes = torch.cat([corner, corner + 16], dim=1).tolist()
    model.zero_grad()
    samples = [sample(boxes, [0] * 500, SIZE), sample(boxes[:1], [1], SIZE)]
    losses = model(torch.rand(2, 3, *SIZE), samples, mode="loss")
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_training_in_half_precision_is_close_to_full(model: nn.Module, batch: tuple) -> None:
    full = model(*batch, mode="loss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(*batch, mode="loss")
    for name, loss in half.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(full[name].item(), rel=0.15), name


class Seen(nn.Module):
    """Stands for a branch that saw one instance in each image, of another class and place."""

    def __init__(self, places: list[tuple[int, int]]) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: list[torch.Tensor]) -> HeadOutputs:
        anchors = sum(level.shape[-2] * level.shape[-1] for level in x)
        batch = len(x[0])
        logits = torch.full((batch, 2, anchors), -20.0)
        distances = torch.full((batch, 4, 16, anchors), -100.0)
        distances[:, :, 2] = 0.0  # all boxes reach two strides from their anchor
        for image, (label, anchor) in enumerate(self.places):
            logits[image, label, anchor] = 4.0
        return HeadOutputs(logits, distances.flatten(1, 2), torch.ones(batch, 1, anchors))


class Everywhere(nn.Module):
    """Prototypes of one map that is the instance's everywhere."""

    def forward(self, finest: torch.Tensor) -> torch.Tensor:
        return torch.full((len(finest), 1, 2 * finest.shape[2], 2 * finest.shape[3]), 20.0)


def test_predictions_are_mapped_back_to_each_image(
    student: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images, enlarged by 2 and by 0.5, padded to one batch of 96 x 128."""
    model = student(classes=2).eval()
    # the anchors of the first level are 16 in a row: the 35th is in row 2, column 3, at (28, 20)
    monkeypatch.setattr(model.bbox_head, "one_to_one", Seen([(1, 35), (0, 35)]))
    monkeypatch.setattr(model.bbox_head, "prototypes", Everywhere())
    shapes = [(96, 64), (40, 128)]
    factors = [(2.0, 2.0), (0.5, 0.5)]
    originals = [(48, 32), (80, 256)]
    samples = [
        DetDataSample(metainfo={"img_shape": shape, "ori_shape": original, "scale_factor": factor})
        for shape, original, factor in zip(shapes, originals, factors, strict=True)
    ]
    images = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for shape in shapes]
    first, second = model.test_step({"inputs": images, "data_samples": samples})
    # two strides of 8 around (28, 20) are 12, 4, 44, 36
    boxes = [[6, 2, 22, 18], [24, 8, 88, 72]]
    for result, label, box, original in zip((first, second), (1, 0), boxes, originals, strict=True):
        found = result.pred_instances
        assert found.labels.tolist() == [label]
        assert found.scores.tolist() == [pytest.approx(1 / (1 + math.exp(-4)))]
        assert found.bboxes[0].tolist() == pytest.approx(box, abs=1e-4)
        expected = torch.zeros(original, dtype=torch.bool)
        expected[box[1] : box[3], box[0] : box[2]] = True
        assert torch.equal(found.masks[0], expected)


def test_images_are_only_scaled_and_padded_with_grey(student: Callable) -> None:
    images = [torch.full((3, 40, 64), 51, dtype=torch.uint8), torch.zeros(3, 32, 33, dtype=torch.uint8)]
    images[0][0] = 255  # blue, as images are read
    data = student(device="cpu").data_preprocessor({"inputs": images, "data_samples": None})
    inputs = data["inputs"]
    assert inputs.shape == (2, 3, 64, 64)
    assert inputs[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.2, 1.0])
    assert torch.allclose(inputs[0, :, 40:], torch.tensor(114 / 255))
    assert torch.allclose(inputs[1, :, :, 33:], torch.tensor(114 / 255))
    assert (inputs[1, :, :32, :33] == 0).all()
