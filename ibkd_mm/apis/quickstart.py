"""The first five minutes: data, a small model trained and set beside the shipped teacher, a page to look at."""

import os
import pickle
import platform
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from pycocotools import mask as rle

from ibkd_mm.apis.config import load_config
from ibkd_mm.apis.test import test
from ibkd_mm.apis.train import train
from ibkd_mm.datasets import ShapesDataset
from ibkd_mm.engine import load_weights
from ibkd_mm.evaluation import Grid, Table, overlay, write_page

SMALL = "ibkd_mm::mask_rcnn/mask_rcnn_r18_fpn_shapes.py"
TEACHER = "ibkd_mm::mask2former/mask2former_tiny_shapes.py"
TEACHER_WEIGHTS = "ibkd_mm::mask2former_tiny_shapes.safetensors"

_PICTURES = 8
_MIN_SCORE = 0.5
_MIN_STEPS = 2


def run(out_dir: str = "quickstart", seconds: int = 120, spec: dict[str, Any] | None = None) -> Path:
    """Train for about `seconds`, evaluate beside the shipped teacher, draw; return the page's path.

    Args:
        out_dir: folder for data, checkpoints and the page.
        seconds: how long to train; the number of steps is chosen by timing a few.
        spec: what the Shapes data are made of, where other than the config's.
    """
    out, started = Path(out_dir), time.perf_counter()
    data = {"data_root": str(out / "shapes"), "spec": {"preset": "hard", **(spec or {})}}
    small, teacher = _on(data, load_config(SMALL)), _on(data, load_config(TEACHER))
    steps = _set_length(small, seconds)
    print(f"Training a small Mask R-CNN for {steps} steps, about {seconds} s", flush=True)
    trained = train(small, work_dir=str(out / "mask_rcnn"))
    weights = {
        "Mask R-CNN, trained just now": str(trained.last),
        "Mask2Former, the shipped teacher": TEACHER_WEIGHTS,
    }
    rows, predictions = [], []
    for (name, checkpoint), config in zip(weights.items(), (small, teacher), strict=True):
        dump = out / f"{'mask_rcnn' if config is small else 'teacher'}.pkl"
        result = test(config, checkpoint, work_dir=str(out / dump.stem), out=str(dump))
        predictions.append(pickle.loads(dump.read_bytes()))  # written just above, by ourselves
        rows.append([name, f"{_parameters(checkpoint):.2f} M", *_figures(result.metrics)])
    page = _write(out, steps, seconds, rows, predictions, small)
    print(_table_text(rows))
    print(f"Done in {time.perf_counter() - started:.0f} s. Look at {page.resolve()}")
    return page


_HEADER = ("model", "parameters", "mask AP", "mask AP50", "box AP")


def _figures(metrics: dict[str, float]) -> list[str]:
    names = ("coco/segm_mAP", "coco/segm_mAP_50", "coco/bbox_mAP")
    return [f"{100 * metrics[name]:.1f}" for name in names]


def _on(data: dict[str, Any], config: Config) -> Config:
    """The same data for everybody, whatever their configs were made for."""
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.update(
            {"data_root": data["data_root"], "spec": {**loader.dataset.spec, **data["spec"]}}
        )
        loader.dataset.spec.train = data["spec"].get("train", 2000)
    for evaluator in (config.val_evaluator, config.test_evaluator):
        evaluator.ann_file = f"{data['data_root']}/annotations/val.json"
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


def _parameters(checkpoint: str) -> float:
    """Millions of weights, batch statistics included."""
    return sum(weight.numel() for weight in load_weights(checkpoint)["state_dict"].values()) / 1e6


def _write(
    out: Path, steps: int, seconds: int, rows: list[list[str]], predictions: list[Any], config: Config
) -> Path:
    threads = f"{torch.get_num_threads()} threads of {platform.processor() or platform.machine()}"
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else threads
    return write_page(
        out,
        "ibkd_mm quickstart",
        [
            f"Mask R-CNN learned Shapes (preset hard) for {steps} steps, about {seconds} s; the Mask2Former teacher "
            "ships with the package. Both are evaluated on the same validation pictures, which neither has seen.",
            f"Hardware: {hardware}; {os.cpu_count()} cores; torch {torch.__version__}; seed: as the config says.",
        ],
        Table(_HEADER, rows),
        Grid(("truth", "mask r-cnn", "teacher"), _drawn(config, predictions)),
    )


def _drawn(config: Config, predictions: list[Any]) -> list[list[NDArray[np.uint8]]]:
    """Truth and what each model says, a row a picture."""
    dataset = DATASETS.build(config.test_dataloader.dataset)
    names, palette = ShapesDataset.METAINFO["classes"], ShapesDataset.METAINFO["palette"]
    rows = []
    for index in range(min(_PICTURES, len(dataset))):
        info = dataset.get_data_info(index)
        image = cv2.imread(info["img_path"])
        truth = [(instance["mask"], instance["bbox_label"]) for instance in info["instances"]]
        said = [_confident(found[index]["pred_instances"]) for found in predictions]
        rows.append(
            [
                overlay(
                    image,
                    _decoded([mask for mask, _ in what], image),
                    [label for _, label in what],
                    palette,
                    names,
                )
                for what in (truth, *said)
            ]
        )
    return rows


def _confident(instances: dict[str, Any]) -> list[tuple[Any, int]]:
    keep = zip(instances["masks"], instances["labels"].tolist(), instances["scores"].tolist(), strict=True)
    return [(mask, label) for mask, label, score in keep if score >= _MIN_SCORE]


def _decoded(masks: list[Any], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    decoded = [rle.decode(mask) for mask in masks]
    return np.array(decoded, dtype=bool).reshape(-1, *image.shape[:2])


def _table_text(rows: list[list[str]]) -> str:
    table = [list(_HEADER), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table
    )
