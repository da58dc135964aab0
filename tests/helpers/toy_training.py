"""A training of milliseconds with all that can spoil a resume: dropout, BatchNorm, augmentation."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from ibkd_mm.engine import ResumableRunner

SAMPLES = 12


class Noisy(Dataset[dict[str, Tensor]]):
    """Samples that three generators disturb; those in `broken` cannot be read."""

    metainfo = {"classes": ("a", "b")}

    def __init__(self, broken: tuple[int, ...] = (), samples: int = SAMPLES) -> None:
        self.broken, self.samples = broken, samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if int(index) in self.broken:
            raise OSError(f"picture {int(index)}.jpg is cut short")
        noise = random.random() + float(np.random.rand()) + torch.rand(4)
        return {"inputs": torch.full((4,), float(index)) / SAMPLES + noise, "target": torch.tensor(index % 2)}


class Wobbly(BaseModel):
    """Two losses over a network with dropout and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: Any, target: Any, mode: str = "tensor") -> Any:
        logits = self.head(self.body(torch.stack(list(inputs))))
        if mode != "loss":
            return [logits]
        truth = torch.stack(list(target))
        return {"loss_cls": nn.functional.cross_entropy(logits, truth), "loss_size": logits.square().mean()}


class MeanLogit(BaseMetric):
    """A metric without a library."""

    default_prefix = "toy"

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(float(torch.stack(list(data_samples)).mean()))

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"mean": sum(results) / len(results)}


@pytest.fixture(scope="session", autouse=True)
def registered() -> None:
    for registry, kind in ((DATASETS, Noisy), (MODELS, Wobbly), (METRICS, MeanLogit)):
        registry.register_module(module=kind, force=True)


def make(folder: Path, steps: int, **changes: Any) -> ResumableRunner:
    """Build a runner; `workers`, `epochs`, `dataset`, `loop`, `guards`, `env`, ... change it."""
    workers = changes.get("workers", 0)
    by_epoch = changes.get("epochs", False)
    sampler = {"type": changes.get("sampler", "DefaultSampler"), "shuffle": True}
    loader = {"batch_size": changes.get("batch_size", 4), "num_workers": workers, "sampler": sampler}
    if workers:
        loader["persistent_workers"] = True
    loader |= changes.get("loader", {})
    name = f"{folder.name}_{uuid4()}"  # mmengine shares logs and histories between runs of one name
    loop = {"by_epoch": by_epoch, ("max_epochs" if by_epoch else "max_iters"): steps}
    config: dict[str, Any] = {
        "model": {"type": "Wobbly"},
        "work_dir": str(folder),
        "train_dataloader": {"dataset": {"type": "Noisy", **changes.get("dataset", {})}, **loader},
        "train_cfg": {**loop, **changes.get("loop", {})},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 0.05},
            **changes.get("optim", {}),
        },
        "param_scheduler": [
            {"type": "CosineAnnealingLR", "T_max": 9, "end": 9, "by_epoch": by_epoch}
            | changes.get("schedule", {})
        ],
        "default_hooks": {
            "checkpoint": {"type": "CheckpointHook", "by_epoch": by_epoch, **changes.get("saving", {})},
            "logger": {"type": "LoggerHook", "interval": 1},
            "preemption": None,
            "non_finite": None,
            "bad_samples": None,
            **changes.get("guards", {}),
        },
        "custom_hooks": changes.get("hooks", []),
        "env_cfg": changes.get("env", {}),
        "randomness": {"seed": changes.get("seed", 1)},
        "default_scope": "mmengine",
        "experiment_name": name,
        "resume": changes.get("resume", False),
        "load_from": changes.get("load_from"),
        "log_level": "ERROR",
        "log_processor": {"by_epoch": by_epoch},
        "visualizer": {"type": "Visualizer", "name": name},
    }
    if changes.get("validate"):
        config = _with_validation(config, changes.get("val_workers", 0))
    return ResumableRunner.from_cfg(config)


def _with_validation(config: dict[str, Any], workers: int) -> dict[str, Any]:
    loader = {"batch_size": 4, "num_workers": workers, "persistent_workers": workers > 0}
    loader["sampler"] = {"type": "DefaultSampler", "shuffle": False}
    return {
        **config,
        "val_dataloader": {"dataset": {"type": "Noisy"}, **loader},
        "val_cfg": {"type": "ValLoop"},
        "val_evaluator": {"type": "MeanLogit"},
    }


def warned(runner: ResumableRunner) -> list[str]:
    """Train, and return the warnings."""
    warnings: list[str] = []
    runner.logger.warning = warnings.append  # type: ignore[method-assign]
    runner.train()
    return warnings


@pytest.fixture
def toy() -> Callable[..., ResumableRunner]:
    return make
