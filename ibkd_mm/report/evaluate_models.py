"""The models of a report, run: what they see on the validation set, and how fast they are."""

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from pycocotools import mask as rle
from torch import nn

from ibkd_mm.benchmark.compare import compare
from ibkd_mm.benchmark.machine import threads
from ibkd_mm.benchmark.pytorch_model import open_torch
from ibkd_mm.benchmark.subject import Settings
from ibkd_mm.config.walk import walk
from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights
from ibkd_mm.errors import UserError
from ibkd_mm.report import Evaluated, Instance, Picture, Speed
from ibkd_mm.utils.cores import usable_cores
from ibkd_mm.utils.digest import hash_of_file, hash_of_value
from ibkd_mm.utils.silence import quiet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

_ROUNDS, _WARMUP = 20, 3
_CLASS_AP = "_precision"

Progress = Callable[[int, int], None]
"""Is given how many pictures a model has seen of how many."""


class ShownProgress:
    """Shows it as a line."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        """Renew the line."""
        if self._bar is None:
            self._bar = ProgressBar(total, file=sys.stderr)
        self._bar.update(done - self._bar.completed)
        if done == total:
            print(file=sys.stderr)


@dataclass(frozen=True)
class Validation:
    """What models are judged on.

    Args:
        loader: settings of it.
        evaluator: settings of it.
        pictures: with what is truly in them.
        classes: names.
        palette: a colour for each.
        contents: hash of what is judged by.
    """

    loader: dict[str, Any]
    evaluator: Any
    pictures: list[Picture]
    classes: list[str]
    palette: list[tuple[int, int, int]]
    contents: str


def read_validation(config: dict[str, Any]) -> Validation:
    """Read the validation set of a config."""
    if config.get("default_scope") == "mmseg":
        raise UserError("models of mmseg have no instances to show; `ibkd test` evaluates them.")
    lacking = [name for name in ("val_dataloader", "val_evaluator") if not config.get(name)]
    if lacking:
        raise UserError(
            "expected val_dataloader and val_evaluator in the config of the first training, found no "
            f"{' and no '.join(lacking)}. Compare trainings that were validated."
        )
    loader = copy.deepcopy(config["val_dataloader"])
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop("prefetch_factor", None)
    with quiet():
        dataset = DATASETS.build(copy.deepcopy(loader["dataset"]))
    told = [dataset.get_data_info(index) for index in range(len(dataset))]
    classes, palette = list(dataset.metainfo["classes"]), dataset.metainfo.get("palette")
    if not isinstance(palette, list) or len(palette) < len(classes):
        palette = _colours(len(classes))
    evaluator, pictures = config["val_evaluator"], [_picture(info) for info in told]
    contents = hash_of_value([told, _files_of(evaluator)])
    return Validation(loader, _by_class(evaluator), pictures, classes, palette, contents)


def _files_of(evaluator: Any) -> list[str]:
    """Hash every file that an evaluator names."""
    named = [Path(value) for _, value in walk(evaluator) if isinstance(value, str)]
    return [hash_of_file(path) for path in named if path.is_file()]


def _picture(info: dict[str, Any]) -> Picture:
    size = info["height"], info["width"]
    truth = [
        Instance(_rle(one["mask"], size), one["bbox_label"])
        for one in info["instances"]
        if "mask" in one and not one.get("ignore_flag")
    ]
    return Picture(Path(info["img_path"]), truth)


def _rle(mask: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Bring a mask as an annotation has it, polygons or counts, into one form."""
    if isinstance(mask, list):
        mask = rle.merge(rle.frPyObjects(mask, *size))
    elif isinstance(mask["counts"], list):
        mask = rle.frPyObjects(mask, *size)
    return _text_rle(mask)


def _text_rle(mask: dict[str, Any]) -> dict[str, Any]:
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _colours(count: int) -> list[tuple[int, int, int]]:
    """Spread colours around the circle."""
    hues = np.array([[[180 * index // count, 200, 230] for index in range(count)]], np.uint8)
    return [tuple(map(int, colour)) for colour in cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0]]  # type: ignore[misc]


def _by_class(evaluator: Any) -> Any:
    """Let COCO's metrics tell AP by class, of masks where both are measured: the last one measured stays."""
    if isinstance(evaluator, list | tuple):
        return [_by_class(each) for each in evaluator]
    made = copy.deepcopy(dict(evaluator))
    if str(made["type"]).endswith("CocoMetric"):
        kinds = made.get("metric", "bbox")
        made.update(classwise=True, metric=sorted([kinds] if isinstance(kinds, str) else kinds))
    return made


def build_student(settings: dict[str, Any], checkpoint: Path) -> nn.Module:
    """Build a student with its weights."""
    model = MODELS.build(ConfigDict(copy.deepcopy(settings)))
    mismatch = load_matching_weights(model, load_weights(checkpoint)["state_dict"])
    if mismatch:
        raise UserError(f"{checkpoint} does not fit the model of its work dir:\n{mismatch}")
    return model.to(DEVICE).eval()


def evaluate_student(model: nn.Module, validation: Validation, seen: Progress) -> Evaluated:
    """Let a student see the validation set."""
    return _evaluated(
        lambda inputs, samples: model(inputs, samples, mode="predict"),
        model.data_preprocessor,
        validation,
        seen,
    )


def evaluate_teacher(
    teacher: nn.Module, student: dict[str, Any], validation: Validation, seen: Progress
) -> Evaluated:
    """Let a teacher see it by the path that distillation takes, in batches made for the student."""
    preprocessor = MODELS.build(copy.deepcopy(student["data_preprocessor"])).to(DEVICE)
    return _evaluated(FrozenTeacher(teacher, preprocessor).predict, preprocessor, validation, seen)


def open_teacher(settings: Any, checkpoint: str | None) -> nn.Module:
    """Build a teacher with its weights."""
    return build_teacher(settings, checkpoint).to(DEVICE)


@torch.no_grad()
def _evaluated(
    predict: Callable[[Any, Any], Sequence[Any]], preprocessor: Any, validation: Validation, seen: Progress
) -> Evaluated:
    with quiet():
        loader = Runner.build_dataloader(copy.deepcopy(validation.loader))
        evaluator = Evaluator(copy.deepcopy(validation.evaluator))
    evaluator.dataset_meta = loader.dataset.metainfo
    found: list[list[Instance]] = []
    for batch in loader:
        data = preprocessor(batch, False)
        samples = predict(data["inputs"], data["data_samples"])
        for sample in samples:
            found.append(_surest(sample.pred_instances, len(validation.pictures[len(found)].truth)))
        evaluator.process(data_samples=samples, data_batch=data)
        seen(len(found), len(validation.pictures))
    with quiet(MMLogger.get_current_instance()):
        metrics = evaluator.evaluate(len(loader.dataset))
    return _sorted_out(metrics, found, validation.classes)


def _surest(instances: Any, most: int) -> list[Instance]:
    order = instances.scores.argsort(descending=True, stable=True)[:most]
    chosen = instances[order].cpu()
    if "masks" not in chosen:
        return []
    masks = rle.encode(np.asfortranarray(np.asarray(chosen.masks, np.uint8).transpose(1, 2, 0)))
    return [
        Instance(_text_rle(mask), int(label), float(score))
        for mask, label, score in zip(masks, chosen.labels, chosen.scores, strict=True)
    ]


def _sorted_out(metrics: dict[str, Any], found: list[list[Instance]], classes: Sequence[str]) -> Evaluated:
    """Tell AP by class from the rest; -1 and NaN stand for nothing that could be found."""
    known = {name: float(value) for name, value in metrics.items() if value >= 0}
    of_class = {f"coco/{name}{_CLASS_AP}": name for name in classes}
    return Evaluated(
        {name: value for name, value in known.items() if name not in of_class},
        {name: known[key] for key, name in of_class.items() if key in known},
        found,
    )


def time_models(models: dict[str, tuple[Any, nn.Module]], validation: Validation) -> list[Speed]:
    """Time models beside each other on the first validation picture.

    Args:
        models: settings and the model itself by name.
        validation: whose pipeline makes pictures fit.
    """
    picture = mmcv.imread(str(validation.pictures[0].path))
    settings = Settings(threads=usable_cores(), device=DEVICE)
    subjects = []
    with threads(settings.threads):
        for described, model in models.values():
            config = Config({"model": described, "test_dataloader": validation.loader})
            subjects.append(open_torch(config, model.state_dict(), picture, settings))
        measured = compare(subjects, _ROUNDS, _WARMUP)
    return [
        Speed(
            name,
            subject.count().parameters,
            1e3 * network.timing.median,
            None if pipeline is None else 1e3 * pipeline.timing.median,
            network.ratio.median,
        )
        for name, subject, (network, pipeline) in zip(models, subjects, measured, strict=True)
    ]
