"""Run the models of a report: predictions and metrics on the validation set, and speed."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from pycocotools import mask as rle
from torch import nn

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings
from ibkd_mm.benchmark.compare import compare
from ibkd_mm.benchmark.machine import threads
from ibkd_mm.benchmark.pytorch_model import open_detector
from ibkd_mm.config.load import resolve_model
from ibkd_mm.config.walk import walk
from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.state_dict_match import load_all_weights
from ibkd_mm.engine.evaluate import Evaluation, Predict
from ibkd_mm.errors import UserError
from ibkd_mm.report.model_results import Instance, ModelResult, Speed, ValidationImage
from ibkd_mm.utils.cores import usable_cores
from ibkd_mm.utils.digest import hash_of_file, hash_of_value
from ibkd_mm.utils.silence import quiet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

_ROUNDS, _WARMUP = 20, 3


@dataclass(frozen=True)
class ValidationSet:
    """The data that models are evaluated on; `digest` is a hash of annotations and the evaluator's files."""

    loader: dict[str, Any]
    evaluator: Any
    images: list[ValidationImage]
    classes: list[str]
    palette: list[tuple[int, int, int]]
    digest: str


@dataclass(frozen=True)
class OpenedModel:
    """A built model with its settings, its prediction and the preprocessor that makes the batches."""

    settings: Any
    model: nn.Module
    predict: Predict
    preprocessor: Any


def read_validation_set(config: dict[str, Any]) -> ValidationSet:
    """Read the validation set of a config."""
    if config.get("default_scope") == "mmseg":
        raise UserError("models of mmseg have no instances to show; `ibkd test` evaluates them.")
    missing = [name for name in ("val_dataloader", "val_evaluator") if not config.get(name)]
    if missing:
        raise UserError(
            "expected val_dataloader and val_evaluator in the config of the first training, found no "
            f"{' and no '.join(missing)}. Compare trainings that were validated."
        )
    loader, evaluator = config["val_dataloader"], config["val_evaluator"]
    with quiet():
        dataset = DATASETS.build(copy.deepcopy(loader["dataset"]))
    records = [dataset.get_data_info(index) for index in range(len(dataset))]
    classes, palette = list(dataset.metainfo["classes"]), dataset.metainfo.get("palette")
    if not isinstance(palette, list) or len(palette) < len(classes):
        palette = _make_palette(len(classes))
    named = [Path(value) for _, value in walk(evaluator) if isinstance(value, str)]
    digest = hash_of_value([records, [hash_of_file(path) for path in named if path.is_file()]])
    images = [_read_image(record) for record in records]
    return ValidationSet(loader, _with_class_ap(evaluator), images, classes, palette, digest)


def _read_image(record: dict[str, Any]) -> ValidationImage:
    size = record["height"], record["width"]
    ground_truth = [
        Instance(_to_rle(instance["mask"], size), instance["bbox_label"])
        for instance in record["instances"]
        if "mask" in instance and not instance.get("ignore_flag")
    ]
    return ValidationImage(Path(record["img_path"]), ground_truth)


def _to_rle(mask: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Convert an annotation's mask, polygons or counts, to compressed RLE with str counts."""
    if isinstance(mask, list):
        mask = rle.merge(rle.frPyObjects(mask, *size))
    elif isinstance(mask["counts"], list):
        mask = rle.frPyObjects(mask, *size)
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _make_palette(count: int) -> list[tuple[int, int, int]]:
    hues = np.array([[[180 * index // count, 200, 230] for index in range(count)]], np.uint8)
    return [tuple(map(int, color)) for color in cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0]]  # type: ignore[misc]


def _with_class_ap(evaluator: Any) -> Any:
    """Make COCO metrics report AP by class: of masks if both are measured, as the last one remains."""
    if isinstance(evaluator, list | tuple):
        return [_with_class_ap(metric) for metric in evaluator]
    settings = copy.deepcopy(dict(evaluator))
    if str(settings["type"]).endswith("CocoMetric"):
        kinds = settings.get("metric", "bbox")
        settings.update(classwise=True, metric=sorted([kinds] if isinstance(kinds, str) else kinds))
    return settings


def open_student(settings: dict[str, Any], checkpoint: Path) -> OpenedModel:
    """Build a student and load its weights."""
    model = MODELS.build(ConfigDict(copy.deepcopy(settings)))
    weights = load_weights(checkpoint)["state_dict"]
    load_all_weights(model, weights, f"{checkpoint} does not fit the model of its work dir")
    model.to(DEVICE).eval()
    return OpenedModel(settings, model, partial(model, mode="predict"), model.data_preprocessor)


def open_teacher(teacher: Any, checkpoint: str | None, student: dict[str, Any]) -> OpenedModel:
    """Build a teacher and load its weights; it predicts the student's batches, as during distillation."""
    model = build_teacher(teacher, checkpoint).to(DEVICE)
    preprocessor = MODELS.build(copy.deepcopy(student["data_preprocessor"])).to(DEVICE)
    settings = resolve_model(teacher, checkpoint).settings
    return OpenedModel(settings, model, FrozenTeacher(model, preprocessor).predict, preprocessor)


def evaluate(model: OpenedModel, data: ValidationSet, on_progress: Callable[[int], None]) -> ModelResult:
    """Evaluate a model on the validation set; the progress is the number of predicted images."""
    evaluation = Evaluation(model.predict, model.preprocessor, data.loader, data.evaluator)
    predictions: list[list[Instance]] = []
    for samples in evaluation:
        for sample in samples:
            limit = len(data.images[len(predictions)].ground_truth)
            predictions.append(_most_confident(sample.pred_instances, limit))
        on_progress(len(predictions))
    with quiet(MMLogger.get_current_instance()):
        # -1 and NaN mean that there was no instance
        metrics = {name: float(value) for name, value in evaluation.metrics().items() if value >= 0}
    class_keys = {f"coco/{name}_precision": name for name in data.classes}
    class_ap = {name: metrics.pop(key) for key, name in class_keys.items() if key in metrics}
    return ModelResult(metrics, class_ap, predictions)


def _most_confident(instances: Any, limit: int) -> list[Instance]:
    order = instances.scores.argsort(descending=True, stable=True)[:limit]
    chosen = instances[order].cpu()
    if "masks" not in chosen:
        return []
    masks = rle.encode(np.asfortranarray(np.asarray(chosen.masks, np.uint8).transpose(1, 2, 0)))
    return [
        Instance(_to_rle(mask, mask["size"]), int(label), float(score))
        for mask, label, score in zip(masks, chosen.labels, chosen.scores, strict=True)
    ]


def time_models(models: dict[str, OpenedModel], validation: ValidationSet) -> list[Speed]:
    """Time models in the same rounds on the first validation image, with its pipeline."""
    image = mmcv.imread(str(validation.images[0].path))
    settings = BenchmarkSettings(threads=usable_cores(), device=DEVICE)
    timed = []
    with threads(settings.threads):
        for opened in models.values():
            config = Config({"model": opened.settings, "test_dataloader": validation.loader})
            timed.append(open_detector(config, opened.model.state_dict(), image, settings))
        measured = compare(timed, _ROUNDS, _WARMUP)
    return [
        Speed(
            name,
            model.count().parameters,
            1e3 * network.timing.median,
            None if pipeline is None else 1e3 * pipeline.timing.median,
            network.ratio.median,
        )
        for name, model, (network, pipeline) in zip(models, timed, measured, strict=True)
    ]
