"""A user's own data as the data source of a quickstart: configs that fit the data, and the teacher."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import MaskFormer
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from ibkd_mm.apis.check import check
from ibkd_mm.config.edit import hash_configs, replace_values
from ibkd_mm.config.load import load_config
from ibkd_mm.config.walk import dicts
from ibkd_mm.data_check import ERROR, WARNING
from ibkd_mm.distill.teacher import build_teacher
from ibkd_mm.engine.checkpoint.sources import locate
from ibkd_mm.errors import UserError
from ibkd_mm.offline.images import training_dataset_config
from ibkd_mm.quickstart.plan import ImageCounts
from ibkd_mm.quickstart.recipe import CACHE_FILE, DISTILLED, Recipe
from ibkd_mm.quickstart.user_data import TRAIN_FILE, VAL_FILE, UserData, read_user_data
from ibkd_mm.utils.cores import usable_cores
from ibkd_mm.utils.digest import hash_of_file, hash_of_value
from ibkd_mm.utils.silence import quiet

STUDENT = "ibkd_mm::yolov10/yolov10n-seg_nuclei.py"
TEACHER = "ibkd_mm::mask2former/mask2former_tiny_nuclei.py"

_MAX_SIDE = 640 if torch.cuda.is_available() else 320
_DIVISOR = 32
_PSEUDO_LABEL_THR = 0.5
_MIN_LABELLED_SHARE = 1 / 4  # of the images that a distilled student trains on
_SHOWN_FOLDERS, _SHOWN_CLASSES = 5, 10
_WEAK_TEACHER = (
    "Teacher: a small Mask2Former, trained first. After so few minutes it is a WEAK teacher, and a student "
    "learns no more than its teacher knows. For a better one, train a Mask2Former for hours, then give its "
    "config by --teacher and its checkpoint by --teacher-weights."
)


class UserDataSource:
    """COCO data of a user, and configs of YOLOv10-N and a Mask2Former that fit them; see `ShapesSource`."""

    can_be_reduced = True

    def __init__(self, path: Path, teacher: str | None, weights: str | None) -> None:
        if (teacher is None) != (weights is None):
            raise UserError("Give --teacher and --teacher-weights together, or neither.")
        data = read_user_data(path)
        self._teacher, self._weights = _absolute(teacher), _absolute(weights)
        if self._teacher and self._weights:
            ordered = _require_teacher_classes(self._teacher, self._weights, data.classes)
            data = dataclasses.replace(data, classes=ordered)
        self._data, self.images = data, data.counts
        configs = {name: load_config(name) for name in (STUDENT, DISTILLED, self._teacher or TEACHER)}
        self.inputs = {
            "data": str(path.resolve()),
            "annotations": [hash_of_file(file)[:16] for file in data.annotation_files],
            "unlabelled images": hash_of_value([str(file) for file in data.unlabelled])[:16],
            "teacher": self._teacher,
            "teacher weights": hash_of_file(locate(self._weights))[:16] if self._weights else None,
            "image size": _image_side(data),
            "configs": hash_configs(configs),
        }
        self.advice = [] if teacher else [_WEAK_TEACHER]
        count, classes = data.counts, ", ".join(data.classes[:_SHOWN_CLASSES])
        description = (
            f"Data: {path}: {count.labelled:,} labelled and {count.unlabelled:,} unlabelled training images, "
            f"{count.validation:,} validation images; {len(data.classes)} classes: {classes}."
        )
        self.messages = [description, *_describe_ignored(data, path), *self.advice]

    def prepare(self, out: Path, images: ImageCounts) -> None:
        """Write annotation files for that many images."""
        self._data.write(out / "data", images)

    def recipe(self, out: Path, images: ImageCounts) -> Recipe:
        """Return the configs of both students and, if it is trained, of the teacher."""
        out, classes = out.resolve(), len(self._data.classes)
        baseline = _fit_to_data(load_config(STUDENT), out / "data", self._data, images)
        baseline.model.bbox_head.num_classes = classes
        distilled = _add_distillation(baseline, load_config(DISTILLED), str(out / CACHE_FILE), images)
        distilled.model.teacher = self._teacher or str(out / "teacher.py")
        distilled.model.teacher_ckpt = self._weights
        if self._teacher:
            return Recipe(baseline, distilled)
        teacher = _fit_to_data(load_config(TEACHER), out / "data", self._data, images)
        head = teacher.model.panoptic_head
        head.num_things_classes = teacher.model.panoptic_fusion_head.num_things_classes = classes
        head.loss_cls.class_weight = [1.0] * classes + [head.loss_cls.class_weight[-1]]
        return Recipe(baseline, distilled, teacher)

    def check(self, recipe: Recipe) -> list[str]:
        """Read all images and annotations; raise a UserError if there are errors."""
        result = check(recipe.baseline)
        if result.count(ERROR):
            raise UserError(f"The data have errors. Fix them first:\n{result}")
        warnings = result.count(WARNING)
        return [f"`ibkd check` has {warnings:,} warnings about the data."] if warnings else []


def _describe_ignored(data: UserData, path: Path) -> list[str]:
    if not data.ignored_folders:
        return []
    ordered = sorted(data.ignored_folders.items(), key=lambda pair: (-pair[1], pair[0]))
    named = [f"{folder.relative_to(path.resolve())} ({count:,})" for folder, count in ordered]
    more = f" and {len(named) - _SHOWN_FOLDERS:,} more" if len(named) > _SHOWN_FOLDERS else ""
    return [
        f"Not used: {sum(data.ignored_folders.values()):,} images in folders without any image that the JSON "
        f"lists, as they may be label maps: {', '.join(named[:_SHOWN_FOLDERS])}{more}. To train on some of "
        "them, move them next to listed images or into a folder called unlabelled, or list them without "
        "annotations."
    ]


def _absolute(reference: str | None) -> str | None:
    """Make the path of a local file absolute; keep URLs and references to packages."""
    if reference is None or "::" in reference or "//" in reference:
        return reference
    return str(Path(reference).expanduser().resolve())


def _require_teacher_classes(config: str, weights: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes in the teacher's order; raise a UserError if it has others or is no Mask2Former."""
    loaded = load_config(config)
    with quiet(MMLogger.get_current_instance()):
        teacher = build_teacher(config, weights)
    if not isinstance(teacher, MaskFormer):
        raise UserError(f"--teacher: expected a Mask2Former, found {config} with a {loaded.model.type}.")
    teacher_classes = tuple(getattr(teacher, "trained_classes", ())) or _config_classes(loaded)
    count = teacher.panoptic_head.num_things_classes
    if sorted(teacher_classes) != sorted(classes) or count != len(classes):
        raise UserError(
            f"--teacher: its classes must be those of the data. Expected {', '.join(classes)}; found "
            f"{', '.join(teacher_classes)} ({count} in its model)."
        )
    return teacher_classes


def _config_classes(config: Config) -> tuple[str, ...]:
    """Return the classes of a config's dataset, for published checkpoints that do not contain them."""
    init_default_scope(config.get("default_scope") or "mmdet")
    dataset = training_dataset_config(config)
    classes = (dataset.get("metainfo") or {}).get("classes")
    return tuple(classes or DATASETS.get(dataset["type"]).METAINFO["classes"])


def _image_side(data: UserData) -> int:
    longest = max(max(image.width, image.height) for image in (*data.labelled, *data.validation))
    return min(_MAX_SIDE, -(-longest // _DIVISOR) * _DIVISOR)


def _fit_to_data(config: Config, folder: Path, data: UserData, images: ImageCounts) -> Config:
    former, side = tuple(config.size), _image_side(data)

    def resize(value: Any) -> Any:
        return (side, side) if isinstance(value, list | tuple) and tuple(value) == former else value

    fitted = replace_values(config, resize)
    for split in ("train", "val", "test"):
        loader = fitted[f"{split}_dataloader"]
        loader.num_workers = max(1, min(loader.num_workers, usable_cores() // 2))
        file = str(folder / (TRAIN_FILE if split == "train" else VAL_FILE))
        source: dict[str, Any] = {"data_root": "", "data_prefix": {"img": ""}, "ann_file": file}
        if split == "train":
            # fills each batch even if the labelled images, which are all that the baseline has, are fewer
            loader.sampler = {"type": "InfiniteSampler", "shuffle": True}
            source["indices"] = images.labelled
        for dataset in dicts(loader.dataset):
            if "ann_file" in dataset:
                dataset.update(**source, metainfo={"classes": data.classes})
    fitted.val_evaluator.ann_file = fitted.test_evaluator.ann_file = str(folder / VAL_FILE)
    return fitted


def _add_distillation(baseline: Config, distillation: Config, cache: str, images: ImageCounts) -> Config:
    config = Config(baseline.to_dict())
    config.model = ConfigDict({**distillation.model, "architecture": config.model})
    config.default_hooks = {**(baseline.get("default_hooks") or {}), **distillation.default_hooks}
    config.teacher_cache = {**distillation.teacher_cache, "path": cache}
    mosaic = config.train_dataloader.dataset
    mosaic.pipeline = [*mosaic.pipeline, {"type": "ibkd_mm.SplitTeacherInstances", "cache": cache}]
    load_instances = {"type": "ibkd_mm.LoadTeacherInstances", "cache": cache}
    labelled = {**mosaic.dataset, "pipeline": [*mosaic.dataset.pipeline, load_instances]}
    if not images.unlabelled:
        mosaic.dataset = labelled
        return config
    pseudo_labels = {**load_instances, "pseudo_label_thr": _PSEUDO_LABEL_THR}
    pipeline = [mosaic.dataset.pipeline[0], {"type": "ibkd_mm.NoAnnotations"}, pseudo_labels]
    indices = list(range(images.labelled, images.training))
    unlabelled = {**mosaic.dataset, "pipeline": pipeline, "indices": indices}
    ratio = _MIN_LABELLED_SHARE / (1 - _MIN_LABELLED_SHARE)
    times = max(1, round(ratio * images.unlabelled / images.labelled))
    repeated = {"type": "RepeatDataset", "times": times, "dataset": labelled}
    mosaic.dataset = ConfigDict({"type": "ConcatDataset", "datasets": [repeated, unlabelled]})
    return config
