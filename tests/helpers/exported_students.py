"""What the tests of export share: a student that finds something, its config, and files of it.

Tracing takes seconds, so each kind of file is written once for all of them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from helpers import CONFIGS
from ibkd_mm.apis.export import Exported, ExportSettings, export
from ibkd_mm.datasets.shapes.build import ShapesSpec
from ibkd_mm.yolov10.attention import PSA
from ibkd_mm.yolov10.layers import Layers

CONFIG = CONFIGS / "yolov10" / "yolov10n-seg_shapes-hard.py"
SIDE = 64
_STUBS = ("backbone", "Pyramid"), ("neck", "Untouched")
_BACKBONE, _NECK = (f"{part}=dict(_delete_=True, type='{kind}')" for part, kind in _STUBS)

_SMALL = """_base_ = "{base}"
model = dict({model})
shapes = dict(data_root="{root}", spec=dict(preset="hard", train=6, val=4, size={side}))
train_dataloader = dict(dataset=shapes)
val_dataloader = dict(dataset=shapes)
test_dataloader = dict(dataset=shapes)
test_dataloader["dataset"]["pipeline"] = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=({side}, {side}), keep_ratio=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_evaluator = dict(ann_file="{root}/annotations/val.json")
test_evaluator = val_evaluator
"""


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Give values as if trained: what is found depends on the image, on the place and on the class."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
    scenes = [ShapesSpec(size=SIDE).scene("train", place).image for place in range(4)]
    images = torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).flip(1) / 255
    levels = model.eval().extract_feat(images)
    branch = model.bbox_head.one_to_one
    bins = torch.arange(16.0).repeat(4)
    for towers, scale, bias in (
        (branch.class_towers, 1.5, torch.tensor(-3.0)),
        (branch.box_towers, 1.5, -0.4 * bins),
        (branch.mask_towers or [], 4.0, torch.tensor(0.0)),
    ):
        for tower, level in zip(towers, levels, strict=False):
            tower[-1].bias.zero_()
            tower[-1].weight *= scale / tower(level).std()
            tower[-1].bias += bias


@MODELS.register_module(force=True)
class Pyramid(nn.Module):
    """Levels of the student's sizes in three steps, and its attention: a backbone that is quick to trace."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 8, 8), nn.Conv2d(64, 128, 2, 2)
        attention = PSA(Layers({"type": "BN"}, {"type": "SiLU"}), 256)
        self.third = nn.Sequential(nn.Conv2d(128, 256, 2, 2), attention)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = self.first(x)
        middle = self.second(fine)
        return fine, middle, self.third(middle)


@MODELS.register_module(force=True)
class Untouched(nn.Identity):
    """A neck that leaves levels as they are."""


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a config of the small student; `model` overrides settings of it."""

    def write(name: str, model: str = "") -> Path:
        folder = tmp_path_factory.getbasetemp() / "students"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.py"
        path.write_text(_SMALL.format(base=CONFIG, model=model, root=folder / "shapes", side=SIDE))
        return path

    return write


@pytest.fixture(scope="session")
def build() -> Callable[[Path], nn.Module]:
    """Build a config's student, with weights that are the same each time."""

    def build(config: Path) -> nn.Module:
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope("mmdet"):
            model = MODELS.build(Config.fromfile(config).model)
        spread(model)
        return model

    return build


@pytest.fixture(scope="session")
def config(write_config: Callable[..., Path]) -> Path:
    return write_config("student")


@pytest.fixture(scope="session")
def detector(config: Path, build: Callable[[Path], nn.Module]) -> nn.Module:
    """The student; not to be changed."""
    return build(config)


@pytest.fixture(scope="session")
def save() -> Callable[[Path, nn.Module], str]:
    """Save a model's weights beside its config."""

    def save(config: Path, model: nn.Module) -> str:
        path = config.with_suffix(".pth")
        torch.save({"state_dict": model.state_dict()}, path)
        return str(path)

    return save


@pytest.fixture(scope="session")
def checkpoint(config: Path, detector: nn.Module, save: Callable[[Path, nn.Module], str]) -> str:
    return save(config, detector)


@pytest.fixture(scope="session", autouse=True)
def traced_once(traced_once: None) -> None:
    """Several kinds of file are made from the same."""


@pytest.fixture(scope="session")
def exported(config: Path, checkpoint: str) -> Exported:
    """The student as ONNX in float32, of one size."""
    return export(config, checkpoint, str(config.parent / "fp32" / "student.onnx"))


@pytest.fixture(scope="session")
def small_config(write_config: Callable[..., Path]) -> Path:
    """A student of fewer layers, though of each kind, which takes half the time to trace."""
    return write_config("small", _BACKBONE)


@pytest.fixture(scope="session")
def small_detector(small_config: Path, build: Callable[[Path], nn.Module]) -> nn.Module:
    """The student of fewer layers; not to be changed."""
    return build(small_config)


@pytest.fixture(scope="session")
def small_checkpoint(
    small_config: Path, small_detector: nn.Module, save: Callable[[Path, nn.Module], str]
) -> str:
    return save(small_config, small_detector)


@pytest.fixture(scope="session")
def exported_dynamic(small_config: Path, small_checkpoint: str) -> Exported:
    """The student of fewer layers as ONNX for any batch and size, with its runtime."""
    out = str(small_config.parent / "dynamic" / "student.onnx")
    return export(small_config, small_checkpoint, out, settings=ExportSettings(dynamic=True, runtime=True))


@pytest.fixture(scope="session")
def boxes_config(write_config: Callable[..., Path]) -> Path:
    """A student of one class that finds boxes alone, quick to trace."""
    return write_config("boxes", f"bbox_head=dict(num_classes=1, mask=None), {_BACKBONE}, {_NECK}")


@pytest.fixture(scope="session")
def boxes_checkpoint(
    boxes_config: Path, build: Callable[[Path], nn.Module], save: Callable[[Path, nn.Module], str]
) -> str:
    return save(boxes_config, build(boxes_config))


@pytest.fixture(scope="session")
def exported_boxes(boxes_config: Path, boxes_checkpoint: str) -> Exported:
    """Boxes of one class, two images at a time, at most twenty in each."""
    out = str(boxes_config.parent / "boxes" / "student.onnx")
    settings = ExportSettings(batch=2, max_instances=20)
    return export(boxes_config, boxes_checkpoint, out, settings=settings)
