"""The full-size Mask2Formers: sizes, what loading the released COCO weights leaves anew, optimiser and schedule."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner.checkpoint import load_checkpoint

CLASSES = {"coco": 80, "voc": 20, "cityscapes": 8}
BACKBONES = ("r50", "swin-t")
UPSTREAM = {
    "r50": "mask2former_r50_8xb2-lsj-50e_coco",
    "swin-t": "mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco",
}
everywhere = pytest.mark.parametrize(("backbone", "data"), [(b, d) for b in BACKBONES for d in CLASSES])
fine_tuned = pytest.mark.parametrize(
    ("backbone", "data"), [(b, d) for b in BACKBONES for d in CLASSES if d != "coco"]
)


def path(backbone: str, data: str) -> str:
    return f"mask2former/mask2former_{backbone}_{data}.py"


@everywhere
def test_queries_and_classes(load: Callable, build: Callable, backbone: str, data: str) -> None:
    model = build(load(path(backbone, data)))
    head, classes = model.panoptic_head, CLASSES[data]
    assert head.num_queries == 100
    assert tuple(head.query_feat.weight.shape) == tuple(head.query_embed.weight.shape) == (100, 256)
    assert head.num_classes == model.panoptic_fusion_head.num_classes == classes
    assert tuple(head.cls_embed.weight.shape) == (classes + 1, 256)
    assert list(head.loss_cls.class_weight) == [1.0] * classes + [0.1]
    assert len(head.transformer_decoder.layers) == 9
    assert len(head.pixel_decoder.encoder.layers) == 6


@pytest.mark.parametrize(("backbone", "count"), [("r50", 44_023_377), ("swin-t", 47_421_643)])
def test_parameters_are_those_of_upstreams_model(
    load: Callable, build: Callable, backbone: str, count: int
) -> None:
    ours = build(load(path(backbone, "coco")))
    upstream = get_config(f"mmdet::mask2former/{UPSTREAM[backbone]}.py")
    upstream.model.backbone.init_cfg = None
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in (ours, build(upstream))]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in ours.parameters()) == count


@everywhere
def test_weights_are_the_released_coco_instance_ones_and_nothing_else_is_fetched(
    load: Callable, backbone: str, data: str
) -> None:
    config = load(path(backbone, data), with_weights=True)
    released = get_config(f"mmdet::mask2former/{UPSTREAM[backbone]}.py", pretrained=True).model_path
    assert config.load_from == released
    assert "Pretrained" not in config.pretty_text


@pytest.mark.parametrize("name", [path(b, d) for b in BACKBONES for d in CLASSES])
def test_licence_stands_beside_the_weights(name: str) -> None:
    text = (Path(__file__).parents[2] / "configs" / name).read_text()
    assert ("CC-BY-NC" in text) is ("load_from" in text)


@fine_tuned
def test_loading_coco_weights_leaves_only_the_classifier_anew(
    load: Callable, build: Callable, tmp_path: Path, backbone: str, data: str
) -> None:
    donor = build(load(path(backbone, "coco"))).state_dict()
    donor = {
        name: torch.full_like(value, 0.5) if value.is_floating_point() else value
        for name, value in donor.items()
    }
    torch.save({"state_dict": donor}, tmp_path / "coco.pth")
    model = build(load(path(backbone, data)))
    born = {name: value.clone() for name, value in model.state_dict().items()}
    load_checkpoint(model, str(tmp_path / "coco.pth"), map_location="cpu")
    state = model.state_dict()
    anew = {name for name in state if state[name].shape != donor[name].shape}
    assert anew == {"panoptic_head.cls_embed.weight", "panoptic_head.cls_embed.bias"}
    assert all(torch.equal(state[name], born[name] if name in anew else donor[name]) for name in state)


def groups(config: Config, model: torch.nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


@fine_tuned
def test_backbone_learns_at_a_tenth_and_norms_do_not_decay(
    load: Callable, build: Callable, backbone: str, data: str
) -> None:
    config = load(path(backbone, data))
    model = build(config)
    found = groups(config, model)
    lr = {"voc": 5e-5, "cityscapes": 1e-4}[data]
    norms = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.modules.batchnorm._BatchNorm)
    inside = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, norms)}
    for name, (rate, decay) in found.items():
        assert rate == pytest.approx(lr * (0.1 if name.startswith("backbone") else 1)), name
        frozen = name.startswith("backbone") and not dict(model.named_parameters())[name].requires_grad
        if name in inside and not frozen:
            assert decay == 0, name
    assert found["backbone.layer1.0.conv1.weight" if backbone == "r50" else "backbone.norm3.bias"][1] in (
        0.05,
        0,
    )
    assert found["panoptic_head.query_feat.weight"] == (lr, 0.0)
    assert found["panoptic_head.cls_embed.weight"] == (lr, 0.05)


def test_swin_overlay_is_upstreams_swin(load: Callable) -> None:
    """The fine-tuned Swin-T configs come from the R50 ones; backbone and optimiser must equal the COCO config's."""
    coco, voc = load(path("swin-t", "coco")), load(path("swin-t", "voc"))
    keys = "depths", "num_heads", "embed_dims", "window_size", "drop_path_rate", "init_cfg"
    assert {k: voc.model.backbone[k] for k in keys} == {k: coco.model.backbone[k] for k in keys}
    assert voc.model.panoptic_head.in_channels == coco.model.panoptic_head.in_channels
    assert voc.optim_wrapper.paramwise_cfg == coco.optim_wrapper.paramwise_cfg
    assert voc.optim_wrapper.clip_grad == coco.optim_wrapper.clip_grad == {"max_norm": 0.01, "norm_type": 2}


def test_r50_cityscapes_trains_its_norms_and_coco_does_not(load: Callable, build: Callable) -> None:
    for data, trained in (("cityscapes", True), ("coco", False)):
        backbone = build(load(path("r50", data))).backbone.train()
        norms = [m for m in backbone.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        assert len(norms) == 53
        assert {m.training for m in norms} == {m.weight.requires_grad for m in norms} == {trained}


@pytest.mark.parametrize(
    ("data", "length", "expected"),
    [
        ("cityscapes", 90_000, {0: 1e-4, 45_000: 1e-4 * 0.5**0.9, 81_000: 1e-4 * 0.1**0.9}),
        ("voc", 16_000, {0: 5e-5, 14_221: 5e-5, 14_222: 5e-6, 15_406: 5e-6, 15_407: 5e-7, 15_999: 5e-7}),
        ("coco", 368_750, {0: 1e-4, 327_777: 1e-4, 327_778: 1e-5, 355_092: 1e-6, 368_749: 1e-6}),
    ],
)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_learning_rate(
    load: Callable, backbone: str, data: str, length: int, expected: dict[int, float]
) -> None:
    config = load(path(backbone, data))
    assert config.train_cfg.max_iters == length
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), {**config.optim_wrapper, "paramwise_cfg": None})
    scheduler = PARAM_SCHEDULERS.build(config.param_scheduler, default_args={"optimizer": wrapper})
    rates: dict[int, Any] = {}
    for iteration in range(length):
        if iteration in expected:
            rates[iteration] = wrapper.get_lr()["lr"][0]
        scheduler.step()
    assert rates == pytest.approx(expected, rel=1e-6)
    assert math.isclose(
        length / {"cityscapes": 2975, "voc": 8498, "coco": 117_266}[data] * 16,
        {"cityscapes": 484, "voc": 30.1, "coco": 50.3}[data],
        rel_tol=2e-3,
    )
