"""What the tests of the student share: building one, and ground truth to learn from."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from helpers import CONFIGS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn

BASES = CONFIGS / "_base_" / "models"


@pytest.fixture(scope="session")
def student() -> Callable[..., nn.Module]:
    """Build a student of some size, with or without masks; on 'meta' it has shapes alone, in no time."""

    def build(size: str = "n", *, classes: int = 80, masks: bool = True, device: str = "cpu") -> nn.Module:
        config = Config.fromfile(BASES / f"yolov10{size}_seg.py").model
        config.bbox_head.num_classes = classes
        if not masks:
            config.bbox_head.mask = None
        with DefaultScope.overwrite_default_scope("mmdet"), torch.device(device):
            return MODELS.build(config)

    return build


@pytest.fixture(scope="session")
def sample() -> Callable[..., DetDataSample]:
    """Make an image's ground truth of boxes that are filled, each a mask of its own."""

    def make(boxes: Sequence[Sequence[float]], labels: Sequence[int], size: tuple[int, int]) -> DetDataSample:
        masks = np.zeros((len(boxes), *size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[round(y1) : round(y2), round(x1) : round(x2)] = 1
        instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.long),
            masks=BitmapMasks(masks, *size),
        )
        meta = {"ori_shape": size, "img_shape": size, "scale_factor": (1.0, 1.0)}
        return DetDataSample(gt_instances=instances, metainfo=meta)

    return make


@pytest.fixture(scope="session")
def scramble() -> Callable[[nn.Module], None]:
    """Give norms statistics and weights as if trained, so that nothing is one or zero by chance."""

    def scramble(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)

    return scramble
