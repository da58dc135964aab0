"""The whole student: published parameter counts and FLOPs, and equal predictions after fusing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.blocks import Bottleneck, CompactInvertedBlock, LargeKernelDW
from ibkd_mm.yolov10.fuse import fuse

ONE_BRANCH = {80: 464_896, 20: 434_556, 8: 432_216, 1: 430_851}
BACKBONE, NECK, BINS = 1_198_928, 646_784, 16
PROTOTYPES, COEFFICIENTS = 92_544, 160_224


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("classes", "total"), [(80, 2_775_520), (20, 2_714_840), (8, 2_710_160), (3, 2_708_210), (1, 2_707_430)]
)
def test_detection_has_the_published_parameters(student: Callable, classes: int, total: int) -> None:
    assert count(student(classes=classes, masks=False, device="meta")) == total


@pytest.mark.parametrize("classes", ONE_BRANCH)
def test_parameters_by_part(student: Callable, classes: int) -> None:
    model = student(classes=classes, device="meta")
    head = model.bbox_head
    parts = [model.backbone, model.neck, head.prototypes, head.one_to_many, head.one_to_one, head.decoder]
    branch = ONE_BRANCH[classes] + COEFFICIENTS
    assert [count(part) for part in parts] == [BACKBONE, NECK, PROTOTYPES, branch, branch, BINS]
    assert count(model) == BACKBONE + NECK + PROTOTYPES + 2 * branch + BINS


def test_backbone_and_neck_by_layer(student: Callable) -> None:
    model = student(device="meta")
    backbone, neck = model.backbone, model.neck
    stages = [backbone.stem, *backbone.stage1, *backbone.stage2, *backbone.stage3, *backbone.stage4]
    assert [count(layer) for layer in [*stages, *backbone.context]] == [
        *(464, 4_672, 7_360, 18_560, 49_664, 9_856, 197_632, 36_096, 460_288),
        *(164_608, 249_728),
    ]
    layers = [neck.down16, neck.down8, neck.shrink8, neck.up16, neck.shrink16, neck.up32]
    assert [count(layer) for layer in layers] == [148_224, 37_248, 36_992, 123_648, 18_048, 282_624]


COMPACT = {
    "n": ([], ["up32"], True),
    "s": ([4], ["up32"], True),
    "m": ([4], ["up16", "up32"], False),
    "b": ([4], ["down16", "up16", "up32"], False),
    "l": ([4], ["down16", "up16", "up32"], False),
    "x": ([3, 4], ["down16", "up16", "up32"], False),
}
"""Stages of the backbone and blocks of the neck made of compact blocks; whether these have 7x7 kernels."""


@pytest.mark.parametrize("size", COMPACT)
def test_blocks_are_of_their_kind(student: Callable, size: str) -> None:
    """In the backbone all blocks add their input, in the neck the compact ones alone."""
    model = student(size, device="meta")
    stages, necks, large = COMPACT[size]
    for number in (1, 2, 3, 4):
        for block in getattr(model.backbone, f"stage{number}")[1].blocks:
            assert isinstance(block, CompactInvertedBlock if number in stages else Bottleneck)
            assert block.shortcut
    for name in ("down16", "down8", "up16", "up32"):
        for block in getattr(model.neck, name).blocks:
            assert isinstance(block, CompactInvertedBlock if name in necks else Bottleneck)
            assert block.shortcut == (name in necks)
    compact = [block for block in model.modules() if isinstance(block, CompactInvertedBlock)]
    assert compact
    assert {isinstance(block.layers[2], LargeKernelDW) for block in compact} == {large}


@pytest.mark.parametrize(
    ("masks", "classes", "train", "one_branch", "both_fused", "deployed"),
    [
        (False, 80, 2_775_520, 2_310_624, 2_762_608, 2_299_264),
        (False, 20, 2_714_840, 2_280_284, 2_702_216, 2_269_068),
        (False, 8, 2_710_160, 2_277_944, 2_697_536, 2_266_728),
        (True, 80, 3_188_512, 2_563_392, None, 2_551_680),
    ],
)
def test_parameters_in_every_form(
    student: Callable,
    masks: bool,
    classes: int,
    train: int,
    one_branch: int,
    both_fused: int | None,
    deployed: int,
) -> None:
    model = student(classes=classes, masks=masks)
    assert count(model) == train
    if both_fused:
        whole = student(classes=classes, masks=masks)
        fuse(whole)
        assert count(whole) == both_fused
    model.bbox_head.drop_training_branch()
    assert count(model) == one_branch
    assert count(model.fuse()) == deployed


@pytest.mark.parametrize(
    ("size", "train", "deployed"),
    [("s", 8_128_272, 7.2), ("m", 16_576_768, 15.4), ("b", None, 19.1), ("l", None, 24.4), ("x", None, 29.5)],
)
def test_larger_sizes_have_the_published_parameters(
    student: Callable, size: str, train: int | None, deployed: float
) -> None:
    model = student(size, masks=False, device="meta")
    assert train in (None, count(model))
    assert round(count(model.fuse()) / 1e6, 1) == deployed


def flops(model: nn.Module, size: int) -> float:
    """Two for each multiplication of convolutions, in 1e9, for one image."""
    total = 0

    def add(module: nn.Conv2d | nn.ConvTranspose2d, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        # a transposed convolution spreads each input, a convolution gathers for each output
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        total += 2 * module.weight.numel() * places.shape[-2] * places.shape[-1]

    handles = [
        module.register_forward_hook(add)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    model(torch.empty(1, 3, size, size, device="meta"), mode="tensor")
    for handle in handles:
        handle.remove()
    return total / 1e9


@pytest.mark.parametrize(("masks", "published"), [(False, 6.695), (True, 9.95)])
def test_flops_are_the_published_ones(student: Callable, masks: bool, published: float) -> None:
    model = student(masks=masks, device="meta").eval().fuse()
    assert flops(model, 640) == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("size", ["n", "m"])
@pytest.mark.parametrize("masks", [True, False])
def test_a_fused_model_predicts_the_same(
    student: Callable, scramble: Callable, size: str, masks: bool
) -> None:
    model = student(size, classes=3, masks=masks).eval()
    scramble(model)
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        before = model(images, mode="tensor")
        after = model.fuse()(images, mode="tensor")
    for one, other in zip(before, after, strict=True):
        if one is None:
            assert not masks
            assert other is None
        else:
            assert one.abs().max() > 0.01
            assert torch.allclose(one, other, atol=1e-5)
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_fused_cannot_be_trained_and_says_why(student: Callable, sample: Callable) -> None:
    model = student(classes=2).fuse()
    with pytest.raises(UserError, match="fused for deployment"):
        model(torch.rand(1, 3, 64, 64), [sample([], [], (64, 64))], mode="loss")


@pytest.mark.parametrize("size", ["n", "m", "x"])
def test_levels_have_their_strides_whatever_the_shape_of_the_image(student: Callable, size: str) -> None:
    model = student(size, classes=2, device="meta")
    levels = model.extract_feat(torch.empty(2, 3, 96, 160, device="meta"))
    assert [tuple(level.shape[-2:]) for level in levels] == [(12, 20), (6, 10), (3, 5)]
    outputs = model.bbox_head(levels)
    anchors = 12 * 20 + 6 * 10 + 3 * 5
    assert outputs.class_logits.shape == (2, 2, anchors)
    assert outputs.distance_logits.shape == (2, 64, anchors)
    assert outputs.coefficients.shape == (2, 32, anchors)
    assert outputs.prototypes.shape == (2, 32, 24, 40)


def test_there_are_8400_anchors_at_640(student: Callable) -> None:
    model = student(device="meta")
    assert model(torch.empty(1, 3, 640, 640, device="meta"), mode="tensor").class_logits.shape[-1] == 8_400


def test_initialising_changes_nothing(student: Callable) -> None:
    """Weights are PyTorch's own from the start, as in the published training; mmcv would draw others."""
    model = student(classes=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    stem = model.backbone.stem.conv.weight
    assert stem.abs().max().item() <= (1 / 27) ** 0.5
    assert stem.std().item() == pytest.approx((1 / 81) ** 0.5, rel=0.1)
