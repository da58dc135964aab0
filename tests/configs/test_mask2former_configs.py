"""The full-size Mask2Formers: sizes, parameters that COCO weights do not load, optimizer and schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CONFIGS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner.checkpoint import load_checkpoint

CLASSES = {"coco": 80, "voc": 20, "cityscapes": 8}
PARAMETERS = {"r50": 44_023_377, "swin-t": 47_421_643}
"""With 80 classes."""

BACKBONES = tuple(PARAMETERS)
CLASSIFIER = {"panoptic_head.cls_embed.weight", "panoptic_head.cls_embed.bias"}
NORMS = (torch.nn.LayerNorm, torch.nn.GroupNorm, torch.nn.modules.batchnorm._BatchNorm)
UPSTREAM = {
    "r50": "mask2former_r50_8xb2-lsj-50e_coco",
    "swin-t": "mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco",
}


def path(backbone: str, data: str) -> str:
    return f"mask2former/mask2former_{backbone}_{data}.py"


@dataclass
class Built:
    backbone: str
    data: str
    config: Config
    model: torch.nn.Module


@pytest.fixture(scope="module", params=[f"{b}_{d}" for b in BACKBONES for d in CLASSES])
def built(request: pytest.FixtureRequest, load: Callable, build: Callable) -> Built:
    backbone, data = request.param.split("_")
    config = load(path(backbone, data))
    return Built(backbone, data, config, build(config))


@pytest.fixture(scope="module")
def upstream(build: Callable) -> dict[str, torch.nn.Module]:
    """What mmdet builds from its own COCO configs, by backbone."""
    configs = {backbone: get_config(f"mmdet::mask2former/{name}.py") for backbone, name in UPSTREAM.items()}
    for config in configs.values():
        config.model.backbone.init_cfg = None
    return {backbone: build(config) for backbone, config in configs.items()}


def test_queries_and_classes(built: Built) -> None:
    head, classes = built.model.panoptic_head, CLASSES[built.data]
    assert head.num_queries == 100
    assert tuple(head.query_feat.weight.shape) == tuple(head.query_embed.weight.shape) == (100, 256)
    assert head.num_classes == built.model.panoptic_fusion_head.num_classes == classes
    assert tuple(head.cls_embed.weight.shape) == (classes + 1, 256)
    assert list(head.loss_cls.class_weight) == [1.0] * classes + [0.1]
    assert len(head.transformer_decoder.layers) == 9
    assert len(head.pixel_decoder.encoder.layers) == 6


def test_parameters_are_upstreams_but_for_the_classifier(built: Built, upstream: dict) -> None:
    ours, theirs = (
        {n: p.shape for n, p in m.named_parameters()} for m in (built.model, upstream[built.backbone])
    )
    assert ours.keys() == theirs.keys()
    different = {name for name in ours if ours[name] != theirs[name]}
    assert different == (set() if built.data == "coco" else CLASSIFIER)
    fewer = (CLASSES["coco"] - CLASSES[built.data]) * 257
    assert sum(shape.numel() for shape in ours.values()) == PARAMETERS[built.backbone] - fewer


def test_coco_weights_load_except_a_classifier_of_another_size(
    built: Built, upstream: dict, tmp_path: Path
) -> None:
    released = upstream[built.backbone].state_dict()
    torch.save({"state_dict": released}, tmp_path / "coco.pth")
    initial = {name: value.clone() for name, value in built.model.state_dict().items()}
    load_checkpoint(built.model, str(tmp_path / "coco.pth"), map_location="cpu")
    state = built.model.state_dict()
    assert state.keys() == released.keys()
    not_loaded = set() if built.data == "coco" else CLASSIFIER
    for name, value in state.items():
        assert torch.equal(value, (initial if name in not_loaded else released)[name]), name


def test_weights_are_the_released_coco_instance_weights_and_nothing_else_is_downloaded(
    load: Callable, built: Built
) -> None:
    config = load(path(built.backbone, built.data), with_weights=True)
    released = get_config(f"mmdet::mask2former/{UPSTREAM[built.backbone]}.py", pretrained=True).model_path
    assert config.load_from == released
    assert "Pretrained" not in str(config.model)


@pytest.mark.parametrize("name", [path(b, d) for b in BACKBONES for d in CLASSES])
def test_a_config_with_weights_names_their_licence(name: str) -> None:
    text = (CONFIGS / name).read_text()
    assert ("CC-BY-NC" in text) is ("load_from" in text)


def groups(config: Config, model: torch.nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def test_backbone_has_a_tenth_of_the_rate_and_norms_queries_and_embeddings_do_not_decay(built: Built) -> None:
    rate = {"coco": 1e-4, "voc": 5e-5, "cityscapes": 1e-4}[built.data]
    found = groups(built.config, built.model)
    assert found.keys() == {name for name, p in built.model.named_parameters() if p.requires_grad}
    norms = {name for name, module in built.model.named_modules() if isinstance(module, NORMS)}
    embeddings = {"query_embed", "query_feat", "level_embed", "relative_position_bias_table"}
    for name, (lr, decay) in found.items():
        assert lr == pytest.approx(rate * (0.1 if name.startswith("backbone.") else 1)), name
        *owner, _ = name.split(".")
        no_decay = ".".join(owner) in norms or not embeddings.isdisjoint(name.split("."))
        assert decay == (0.0 if no_decay else 0.05), name


def test_swin_overlay_is_upstreams_swin(load: Callable) -> None:
    """The fine-tuned Swin-T configs inherit the R50 ones: backbone and optimizer must equal COCO's."""
    coco, voc = load(path("swin-t", "coco")), load(path("swin-t", "voc"))
    keys = "depths", "num_heads", "embed_dims", "window_size", "drop_path_rate", "init_cfg"
    assert {k: voc.model.backbone[k] for k in keys} == {k: coco.model.backbone[k] for k in keys}
    assert voc.model.panoptic_head.in_channels == coco.model.panoptic_head.in_channels
    assert voc.optim_wrapper.paramwise_cfg == coco.optim_wrapper.paramwise_cfg
    assert voc.optim_wrapper.clip_grad == coco.optim_wrapper.clip_grad == {"max_norm": 0.01, "norm_type": 2}


def test_r50_trains_its_norms_on_cityscapes_only(load: Callable, build: Callable) -> None:
    for data, trained in (("cityscapes", True), ("coco", False)):
        backbone = build(load(path("r50", data))).backbone
        backbone.train()
        norms = [m for m in backbone.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        assert len(norms) == 53
        assert {m.training for m in norms} == {m.weight.requires_grad for m in norms} == {trained}


@pytest.mark.parametrize(
    ("data", "length", "expected"),
    [
        ("cityscapes", 90_000, {0: 1e-4, 45_000: 1e-4 * (44_999 / 89_999) ** 0.9, 89_999: 0.0}),
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
    assert rates == pytest.approx(expected, rel=1e-6, abs=1e-15)
