"""A model and data for it whose steps are spoilt as the data says; the configs of tests import it by name."""

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import Dataset

CONFIG = """
custom_imports = dict(imports=['ibkd_mm.register_all', 'helpers.spoilt_steps'])
runner_type = 'ibkd_mm.ResumableRunner'
model = dict(type='SpoiltNet')
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='SpoiltSteps', kinds={kinds}))
train_cfg = dict(type='IterBasedTrainLoop', max_iters={steps})
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
custom_hooks = [dict(type='Witness')]
default_hooks = dict(
    non_finite=dict(patience=3), preemption=None, bad_samples=None,
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100))
log_processor = dict(by_epoch=False)
randomness = dict(seed=5)
"""

NAN, INF = float("nan"), float("inf")


@DATASETS.register_module(force=True)
class SpoiltSteps(Dataset):
    """Batches of two; `kinds` names what is wrong with each, `numbers` which numbers it holds."""

    def __init__(self, kinds: list[str], numbers: list[int] | None = None) -> None:
        self.kinds, self.numbers = kinds, numbers or list(range(len(kinds)))

    def __len__(self) -> int:
        return 2 * len(self.kinds)

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(2 * self.numbers[index // 2] + index % 2)
        sample = DetDataSample(metainfo={"kind": self.kinds[index // 2], "scale_factor": (1.0, 1.0)})
        boxes = HorizontalBoxes(torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 3.0]]))
        masks = BitmapMasks(torch.ones(2, 4, 4, dtype=torch.uint8).numpy(), 4, 4)
        labels = torch.tensor([0, 1])
        sample.gt_instances = InstanceData(bboxes=boxes, masks=masks, labels=labels)[: 2 * (1 - index % 2)]
        return {"inputs": torch.randn(1, 4, 4, generator=generator), "data_samples": sample}


@MODELS.register_module(force=True)
class SpoiltNet(BaseModel):
    """Convolution, norm, dropout, and two heads with a loss each."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.cls, self.mask = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
        self.register_buffer("never", torch.tensor(INF))

    def init_weights(self) -> None:
        torch.manual_seed(3)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, inputs: list[torch.Tensor], data_samples: list[Any], mode: str = "loss") -> Any:
        kind, _, rank = (data_samples[0].kind if mode == "loss" else "").partition("@")
        if rank and int(rank) != get_rank():
            kind = ""
        pictures = torch.stack(inputs) * (1e25 if kind == "statistics" else 1)
        features = self.drop(self.norm(self.conv(pictures)))
        if kind == "in place":
            inputs[0].fill_(NAN)
        if mode == "predict":
            return [self.cls(features)]
        mask = self.mask(features * NAN if kind == "features" else features).float().abs().mean()
        if kind in ("nan", "in place"):
            mask = mask * NAN
        if kind == "inf":  # the gradient stays finite
            mask = mask + INF
        if kind == "gradient":  # the root of 0 is 0, its slope is not
            mask = mask + (0 * self.mask.weight).square().sum().sqrt()
        return {
            "loss_cls": self.cls(features).float().square().mean(),
            "loss_mask": [mask, mask / 2],
            "accuracy": torch.tensor(NAN),
        }


@HOOKS.register_module(force=True)
class Witness(Hook):
    """Keeps what a training looks like before and after each step."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.after: list[Any] = []

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.before.append(_state(runner))

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.after.append(_state(runner))


def _state(runner: Any) -> dict[str, torch.Tensor]:
    """Weights, buffers and what the optimizer remembers, by name."""
    state = {name: value.clone() for name, value in runner.model.state_dict().items()}
    optimizer = runner.optim_wrapper.optimizer.state_dict()["state"]
    for index, remembered in optimizer.items():
        state.update(
            {
                f"optimizer.{index}.{name}": value.clone()
                for name, value in remembered.items()
                if value is not None
            }
        )
    return state
