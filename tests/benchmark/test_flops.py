"""Operations of PyTorch models: published counts, and layers worked out by hand."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ibkd_mm.apis import load_config
from ibkd_mm.benchmark.pytorch_model import count_flops
from ibkd_mm.yolov10.export_graph import DeployedStudent


def fused(*, classes: int = 80, masks: bool = True, device: str = "cpu") -> nn.Module:
    config = load_config("ibkd_mm::_base_/models/yolov10n_seg.py").model
    config.bbox_head.num_classes = classes
    if not masks:
        config.bbox_head.mask = None
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device(device):
        return MODELS.build(config).eval().fuse()


@pytest.mark.parametrize(("masks", "published"), [(False, 6_694_924_800), (True, 9_953_702_400)])
def test_the_student_has_the_published_flops(masks: bool, published: int) -> None:
    """6.70 and 9.95 GFLOPs at 640, fused; the attention's 61 MFLOPs stand apart."""
    model = fused(masks=masks, device="meta")
    images = torch.empty(1, 3, 640, 640, device="meta")
    counted = count_flops(lambda: model(images, mode="tensor"))
    positions, heads, key, value = 20 * 20, 2, 32, 64
    assert counted.weights == published
    assert counted.products == 2 * heads * positions**2 * (key + value)


def test_what_comes_after_the_network_multiplies_no_weights() -> None:
    model = fused(classes=3)
    images = torch.rand(1, 3, 64, 64)
    network = count_flops(lambda: model(images, mode="tensor"))
    whole = count_flops(lambda: DeployedStudent(model, max_instances=20)(images))
    assert whole.weights == network.weights
    assert whole.products - network.products == 2 * 20 * 32 * 16 * 16  # of coefficients and prototypes


def test_layers_by_hand() -> None:
    places = 8 * 8
    layers = {
        nn.Conv2d(4, 6, 3, stride=2, padding=1): 2 * 6 * 4 * 9 * places // 4,
        nn.Conv2d(4, 4, 3, padding=1, groups=4): 2 * 4 * 9 * places,
        nn.ConvTranspose2d(4, 5, 2, stride=2): 2 * 4 * 5 * 4 * places,
        nn.Linear(8, 3): 2 * 8 * 3 * 4 * 8,
        nn.BatchNorm2d(4): 0,
    }
    for layer, expected in layers.items():
        assert count_flops(lambda layer=layer: layer.eval()(torch.rand(1, 4, 8, 8))) == (expected, 0), layer
