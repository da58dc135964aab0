"""Work dirs as a training leaves them, without a training."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STUDENT = {"type": "ibkd_mm.YOLOv10", "neck": {"widen_factor": 0.25}}
FLIP, PACK = {"type": "RandomFlip", "prob": [0.5, 0.25]}, {"type": "PackDetInputs"}
CONFIG: dict[str, Any] = {
    "model": STUDENT,
    "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 200, "val_interval": 100},
    "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.002}},
    "param_scheduler": [{"type": "LinearLR", "begin": 0, "end": 20}],
    "train_dataloader": {
        "batch_size": 16,
        "num_workers": 1,
        "dataset": {"type": "CocoDataset", "ann_file": "train.json", "pipeline": [FLIP, PACK]},
    },
    "val_dataloader": {"batch_size": 8, "num_workers": 1, "dataset": {"type": "CocoDataset"}},
    "val_evaluator": {"type": "CocoMetric", "ann_file": "val.json"},
    "custom_hooks": [],
    "randomness": {"seed": 0},
}
ENVIRONMENT = """2026/01/01 00:00:00 - mmengine - INFO - 
------------------------------------------------------------
System environment:
    numpy_random_seed: 77
    GPU 0,1: Some GPU
    PyTorch: 2.6.0
Runtime environment:
    GPU number: {processes}
------------------------------------------------------------
2026/01/01 00:00:00 - mmengine - INFO - Config:
    GPU 0: not this one
"""


def distillation(student: Mapping[str, Any] = STUDENT) -> dict[str, Any]:
    """The settings of a distilled student's model."""
    return {
        "type": "ibkd_mm.FrozenTeacherDistill",
        "architecture": dict(student),
        "teacher": "teacher.py",
        "teacher_ckpt": "teacher.pth",
    }


def changed(**changes: Any) -> dict[str, Any]:
    """The settings with others: `train_cfg__max_iters=300`."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, name = path.split("__")
        node = config
        for parent in parents:
            node = node[parent]
        node[name] = value
    return config


def training(step: int, losses: Mapping[str, float] | None = None, **more: Any) -> dict[str, Any]:
    """What is logged of a step."""
    terms = losses or {"loss_mask": 1.0}
    return {"lr": 0.1, "loss": sum(terms.values()), **terms, "time": 0.5, "iter": step, "step": step, **more}


def validation(mask: float, box: float = 0.0, step: int = 0, **more: float) -> dict[str, Any]:
    """What is logged of a validation, by a loop of iterations."""
    return {"coco/segm_mAP": mask, "coco/bbox_mAP": box, "time": 0.1, "step": step, **more}


def write_run(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any] = CONFIG,
    *,
    seed: int | None = 0,
    stamp: str = "20260101_000000",
    name: str = "base",
    processes: int = 1,
) -> Path:
    """Write one time-stamped folder of a work dir, as mmengine does, and return the work dir."""
    logs = folder / stamp
    (logs / "vis_data").mkdir(parents=True)
    settings = {**config, "randomness": {"seed": seed}}
    text = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
    (logs / "vis_data" / "config.py").write_text(text)
    (folder / f"{name}.py").write_text(text)
    (logs / "vis_data" / "scalars.json").write_text("".join(json.dumps(each) + "\n" for each in records))
    (logs / f"{stamp}.log").write_text(ENVIRONMENT.format(processes=processes))
    return folder


def finished(
    mask: float, box: float = 0.0, losses: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """The records of 200 steps that were validated twice."""
    return [
        training(50, losses),
        training(100, losses),
        validation(mask / 2, box / 2),
        training(150, losses),
        training(200, losses),
        validation(mask, box),
    ]
