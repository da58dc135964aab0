"""A step of one branch as a whole: its values, its normalisation over processes, its numbers at extremes."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ibkd_mm.yolov10 import BranchStep, GroundTruth, HeadOutputs, criterion
from ibkd_mm.yolov10.anchors import make_anchors
from ibkd_mm.yolov10.assigner import pairs_inside
from ibkd_mm.yolov10.structures import IgnoreRegions

SIZE = 64


@pytest.fixture(scope="module")
def head(student: Callable) -> nn.Module:
    return student(classes=3).bbox_head


def anchors() -> Tensor:
    return make_anchors([torch.empty(1, 1, SIZE // s, SIZE // s) for s in (8, 16, 32)], (8, 16, 32))


def outputs(batch: int, seed: int = 0, scale: float = 1.0) -> HeadOutputs:
    torch.manual_seed(seed)
    count = len(anchors())
    shapes = (3, count), (64, count), (32, count), (32, SIZE // 4, SIZE // 4)
    return HeadOutputs(*(torch.randn(batch, *shape).mul(scale).requires_grad_() for shape in shapes))


def truth(image: list[int], boxes: list[list[float]]) -> GroundTruth:
    count = len(image)
    masks = torch.randint(0, 17, (count, SIZE // 4, SIZE // 4), generator=torch.Generator().manual_seed(0))
    where = torch.tensor(boxes).reshape(-1, 4)
    labels = torch.arange(count) % 3
    return GroundTruth(torch.tensor(image).long(), where, labels, masks.byte(), 4)


BOXES = [[4.0, 6.0, 40.0, 50.0], [20.0, 2.0, 60.0, 30.0], [8.0, 8.0, 30.0, 30.0]]


def step(
    head: nn.Module, given: HeadOutputs, instances: GroundTruth, name: str = "one_to_many"
) -> BranchStep:
    places = anchors()
    boxes = head.decoder(given.distance_logits, places)
    return head.criteria[name](given, boxes, places, instances, pairs_inside(places[:, :2], instances))


def test_losses_are_those_of_its_parts(head: nn.Module) -> None:
    given, instances = outputs(2), truth([0, 0, 1], BOXES)
    taken = step(head, given, instances)
    image, anchor, instance, score = taken.assignment
    total = max(score.sum().item(), 1.0)
    assert len(image) > 3
    assert set(taken.losses) == {"loss_cls", "loss_bbox", "loss_dfl", "loss_mask"}

    targets = torch.zeros_like(given.class_logits)
    targets[image, instances.labels[instance], anchor] = score
    bce = nn.functional.binary_cross_entropy_with_logits(given.class_logits, targets, reduction="sum")
    assert taken.losses["loss_cls"].item() == pytest.approx(0.5 * bce.item() / total, rel=1e-5)

    dfl = 0.0
    places = anchors()
    for b, a, t, s in zip(image.tolist(), anchor.tolist(), instance.tolist(), score.tolist(), strict=True):
        x, y, stride = places[a].tolist()
        x1, y1, x2, y2 = instances.boxes[t].tolist()
        chances = given.distance_logits[b, :, a].reshape(4, 16).log_softmax(1)
        for side, distance in enumerate((x - x1, y - y1, x2 - x, y2 - y)):
            distance = min(max(distance / stride, 0), 14.99)
            low = int(distance)
            near, far = chances[side, low].item(), chances[side, low + 1].item()
            dfl -= s * ((low + 1 - distance) * near + (distance - low) * far) / 4
    assert taken.losses["loss_dfl"].item() == pytest.approx(1.5 * dfl / total, rel=1e-4)


def test_in_ignore_regions_only_positives_have_a_classification_loss(head: nn.Module) -> None:
    given, instances = outputs(2), truth([0, 0, 1], BOXES)
    sure = step(head, given, instances)
    boxes = torch.tensor([[0.0, 0.0, 33.0, 64.0], [30.0, 30.0, 50.0, 50.0], [60.0, 60.0, 61.0, 61.0]])
    ignore_regions = IgnoreRegions(torch.tensor([0, 0, 1]), boxes)  # the last holds no anchor
    with_regions = step(head, given, dataclasses.replace(instances, ignore_regions=ignore_regions))
    image, anchor, instance, score = sure.assignment
    assert all(map(torch.equal, sure.assignment, with_regions.assignment))
    for name in ("loss_bbox", "loss_dfl", "loss_mask"):
        assert torch.equal(sure.losses[name], with_regions.losses[name])

    asked = torch.ones(2, len(anchors()))
    for place, (x, y, _) in enumerate(anchors().tolist()):
        if any(left < x < right and top < y < bottom for left, top, right, bottom in boxes[:2].tolist()):
            asked[0, place] = 0
    ignored_anchors = int((1 - asked).sum())
    asked[image, anchor] = 1
    assert 0 < int((1 - asked).sum()) < ignored_anchors
    targets = torch.zeros_like(given.class_logits)
    targets[image, instances.labels[instance], anchor] = score
    each = nn.functional.binary_cross_entropy_with_logits(given.class_logits, targets, reduction="none")
    expected = 0.5 * (each * asked[:, None]).sum().item() / max(score.sum().item(), 1.0)
    assert with_regions.losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)
    assert expected < sure.losses["loss_cls"].item()


def test_masks_on_demand_are_those_of_the_positives(head: nn.Module) -> None:
    given = outputs(2)
    taken = step(head, given, truth([0, 0, 1], BOXES))
    image, anchor = taken.assignment.image, taken.assignment.anchor
    expected = torch.einsum("np,nphw->nhw", given.coefficients[image, :, anchor], given.prototypes[image])
    everything = torch.ones(len(image), dtype=torch.bool)
    assert torch.allclose(taken.mask_logits(everything), expected, atol=1e-5)
    some = torch.tensor([len(image) - 1, 0, 2])
    assert torch.allclose(taken.mask_logits(some), expected[some], atol=1e-5)
    taken.mask_logits(some).sum().backward()
    assert given.coefficients.grad[image[0], :, anchor[0]].any()
    assert given.prototypes.grad.any()


def test_one_to_one_gives_an_instance_one_anchor_at_most(head: nn.Module) -> None:
    taken = step(head, outputs(2), truth([0, 0, 1], BOXES), "one_to_one")
    assert len(taken.assignment.instance.unique()) == len(taken.assignment.instance) > 1


def part(given: HeadOutputs, instances: GroundTruth, image: int) -> tuple[HeadOutputs, GroundTruth]:
    """What one process has that sees this image alone."""
    mine = instances.image == image
    alone = instances.boxes[mine], instances.labels[mine], instances.masks[mine]
    outputs = HeadOutputs(*(maps[image : image + 1] for maps in given))
    return outputs, GroundTruth(torch.zeros(len(alone[0])).long(), *alone, instances.mask_stride)


@pytest.mark.parametrize("copies", [1, 12])
def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(
    head: nn.Module, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """Whether the scores sum up to less than one, the least that a loss is divided by, or to more."""
    given = outputs(2)
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor(BOXES * copies) + torch.rand(3 * copies, 4, generator=generator) * 20
    instances = truth(sorted([0, 0, 1] * copies), boxes.tolist())
    whole = step(head, given, instances)
    assert (whole.assignment.score.sum() > 1) == (copies > 1)

    halves = [part(given, instances, image) for image in (0, 1)]
    sums: list[Tensor] = []
    monkeypatch.setattr(criterion, "reduce_mean", lambda mine: sums.append(mine) or mine)
    for half in halves:
        step(head, *half)
    monkeypatch.setattr(criterion, "reduce_mean", lambda mine: (sums[0] + sums[1]) / 2)
    monkeypatch.setattr(criterion, "get_world_size", lambda: 2)
    apart = [step(head, *half).losses for half in halves]
    for name, loss in whole.losses.items():
        assert loss.item() == pytest.approx(sum(each[name].item() for each in apart) / 2, rel=1e-5), name


CASES = {
    "no instances": ([], []),
    "one image empty": ([1], BOXES[:1]),
    "one pixel": ([0, 1], [[11.0, 11.0, 12.5, 12.5], [12.0, 12.0, 13.0, 13.0]]),
    "the whole image": ([0, 1], [[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 64.0, 64.0]]),
    "without area": ([0, 1], [[12.0, 3.0, 12.0, 40.0], [3.0, 12.0, 3.0, 12.0]]),
}


@pytest.mark.parametrize("name", ["one_to_many", "one_to_one"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 2e4])
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_finite(
    head: nn.Module, case: str, scale: float, dtype: torch.dtype, name: str
) -> None:
    given = outputs(2, scale=scale)
    half = HeadOutputs(*(part.clamp(-6e4, 6e4).to(dtype) for part in given))
    taken = step(head, half, truth(*CASES[case]), name)
    sum(taken.losses.values()).backward()
    for key, loss in taken.losses.items():
        assert loss.dtype == torch.float32
        assert loss.isfinite(), key
    for part in given:
        assert part.grad.isfinite().all()
    if case == "no instances":
        assert [taken.losses[key].item() for key in ("loss_bbox", "loss_dfl", "loss_mask")] == [0, 0, 0]
        assert not any(part.grad.any() for part in given[1:])
        assert taken.losses["loss_cls"].item() > 0


def test_nothing_runs_in_half_precision_under_autocast(head: nn.Module) -> None:
    given, instances = outputs(2), truth([0, 0, 1], BOXES)
    plain = step(head, given, instances).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = step(head, given, instances).losses
    assert {name: loss.item() for name, loss in mixed.items()} == {
        name: loss.item() for name, loss in plain.items()
    }
