"""The first five minutes: a small model is trained, set beside the shipped teacher, and drawn on a page."""

import pickle
import time
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from ibkd_mm.apis.config import load_config
from ibkd_mm.apis.quickstart_page import Contender, table_text, write
from ibkd_mm.apis.test import test
from ibkd_mm.apis.train import train

SMALL = "ibkd_mm::mask_rcnn/mask_rcnn_r18_fpn_shapes.py"
TEACHER = "ibkd_mm::mask2former/mask2former_tiny_shapes.py"
TEACHER_WEIGHTS = "ibkd_mm::mask2former_tiny_shapes.safetensors"

_MIN_STEPS = 2
_SEED = 0


def run(out_dir: str = "quickstart", seconds: int = 120, spec: dict[str, Any] | None = None) -> Path:
    """Train for about `seconds`, evaluate beside the shipped teacher, draw; return the page's path.

    Args:
        out_dir: folder for data, checkpoints and the page.
        seconds: how long to train; the number of steps is chosen by timing a few.
        spec: what the Shapes data are made of, where other than `easy` with 2,000 pictures.
    """
    out, started = Path(out_dir), time.perf_counter()
    data = {"preset": "easy", "train": 2000, **(spec or {})}
    small, teacher = (_on(out / "shapes", data, load_config(name)) for name in (SMALL, TEACHER))
    small.randomness = {"seed": _SEED}
    steps = _set_length(small, seconds)
    print(f"Training a small Mask R-CNN for {steps} steps, about {seconds} s", flush=True)
    trained = train(small, work_dir=str(out / "mask_rcnn"))
    contenders = [
        _evaluated("Mask R-CNN, trained just now", small, str(trained.last), out / "mask_rcnn"),
        _evaluated("Mask2Former, the shipped teacher", teacher, TEACHER_WEIGHTS, out / "teacher"),
    ]
    page = write(
        out, contenders, small, f"Mask R-CNN was trained for {steps} steps, about {seconds} s, seed {_SEED}."
    )
    print(table_text(contenders))
    print(f"Done in {time.perf_counter() - started:.0f} s. Look at {page.resolve()}")
    return page


def _on(root: Path, data: dict[str, Any], config: Config) -> Config:
    """The same data for everybody, whatever their configs were made for."""
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.update(data_root=str(root), spec={**loader.dataset.spec, **data})
    for evaluator in (config.val_evaluator, config.test_evaluator):
        evaluator.ann_file = f"{root}/annotations/val.json"
    return config


def _set_length(config: Config, seconds: int) -> int:
    """Fit the number of steps, and with it the schedule, into the time."""
    steps = max(_MIN_STEPS, int(seconds / _seconds_a_step(config)))
    config.train_cfg.update(max_iters=steps, val_interval=steps + 1)
    warm_up, decay = config.param_scheduler
    warm_up.end = decay.begin = min(warm_up.end, steps // 2)
    decay.end = steps
    return steps


def _seconds_a_step(config: Config, steps: int = 4) -> float:
    """Time training steps on real data; the first, which warms caches, does not count."""
    init_default_scope("mmdet")
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model).train()
    optimiser = build_optim_wrapper(model, config.optim_wrapper)
    for step in range(steps + 1):
        if step == 1:
            begun = time.perf_counter()
        batch = [dataset[i % len(dataset)] for i in range(config.train_dataloader.batch_size)]
        model.train_step(pseudo_collate(batch), optimiser)
    return (time.perf_counter() - begun) / steps


def _evaluated(name: str, config: Config, checkpoint: str, folder: Path) -> Contender:
    dump = folder / "predictions.pkl"
    folder.mkdir(parents=True, exist_ok=True)
    result = test(config, checkpoint, work_dir=str(folder), out=str(dump))
    predictions = pickle.loads(dump.read_bytes())  # written just above, by ourselves
    parameters = sum(weight.numel() for weight in MODELS.build(config.model).parameters())
    return Contender(name, parameters, result.metrics, predictions)
