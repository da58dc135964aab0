"""A user's own data as material of a quickstart: the configs for them, and the teacher."""

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
from ibkd_mm.config.load import load_config
from ibkd_mm.data_check import ERROR, WARNING
from ibkd_mm.distill.teacher import build_teacher
from ibkd_mm.engine.checkpoint.sources import locate
from ibkd_mm.errors import UserError
from ibkd_mm.offline.images import training_dataset_config
from ibkd_mm.quickstart.plan import Amounts
from ibkd_mm.quickstart.recipe import CACHE, DISTILLED, Recipe, dicts, digest, replaced
from ibkd_mm.quickstart.user_data import TRAIN, VAL, UserData, read_user_data
from ibkd_mm.utils.cores import usable_cores
from ibkd_mm.utils.digest import hash_of_file, hash_of_value
from ibkd_mm.utils.silence import quiet

STUDENT = "ibkd_mm::yolov10/yolov10n-seg_nuclei.py"
TEACHER = "ibkd_mm::mask2former/mask2former_tiny_nuclei.py"

_SIDE = 640 if torch.cuda.is_available() else 320
_DIVISOR = 32
_SURE = 0.5
"""From which score on what a teacher saw in a picture without labels is taken for true."""
_SHOWN = 5
_LABELLED_SHARE = 4
"""Pictures with labels are one in so many of those that are shown, or more."""


class UserDataSource:
    """Data, and the configs of YOLOv10-N and the small Mask2Former made to fit them.

    Args:
        path: a COCO JSON, or a folder with one.
        teacher: the config of a Mask2Former for the same classes; else a small one is trained first.
        weights: of that teacher.
    """

    can_be_cut = True

    def __init__(self, path: Path, teacher: str | None, weights: str | None) -> None:
        if (teacher is None) != (weights is None):
            raise UserError("Give --teacher and --teacher-weights together, or neither.")
        data = read_user_data(path)
        self._teacher, self._weights = _absolute(teacher), _absolute(weights)
        if teacher is not None:
            classes = _classes_in_order(data.classes, str(self._teacher), str(self._weights))
            data = dataclasses.replace(data, classes=classes)
        self._data = data
        self.amounts = data.amounts
        configs = [load_config(each) for each in (STUDENT, DISTILLED, self._teacher or TEACHER)]
        weights_hash = hash_of_file(locate(self._weights))[:16] if self._weights else None
        self.asked = {
            "data": str(path.resolve()),
            "annotations": [hash_of_file(file)[:16] for file in data.found],
            "pictures without labels": hash_of_value([str(file) for file in data.unlabelled])[:16],
            "teacher": self._teacher,
            "teacher weights": weights_hash,
            "side of pictures": _side(data),
            "configs": digest(Recipe(*configs)),
        }
        self.advice = [] if teacher else [_WEAK]
        self.said = [_about(data, path), *_left_out(data, path), *self.advice]

    def make(self, out: Path, amounts: Amounts) -> None:
        """Write the annotations of so many pictures."""
        self._data.write(out / "data", amounts)

    def recipe(self, out: Path, amounts: Amounts) -> Recipe:
        """Make student and teacher fit the data."""
        out = out.resolve()
        baseline = _student(load_config(STUDENT), out / "data", self._data, amounts)
        distilled = _distilled(baseline, load_config(DISTILLED), str(out / CACHE), amounts)
        distilled.model.teacher = self._teacher or str(out / "teacher.py")
        distilled.model.teacher_ckpt = self._weights
        teacher = None if self._teacher else _own_teacher(out / "data", self._data, amounts)
        return Recipe(baseline, distilled, teacher)

    def check_sound(self, recipe: Recipe) -> list[str]:
        """Read everything, and stop at errors."""
        found = check(recipe.baseline)
        if found.count(ERROR):
            raise UserError(f"The data have errors, which must be mended first:\n{found}")
        warned = found.count(WARNING)
        return (
            [f"In the data {warned:,} things are to be warned of, which `ibkd check` names."]
            if warned
            else []
        )


_WEAK = (
    "Teacher: a small Mask2Former, trained first. In so few minutes it becomes a WEAK one, and a student "
    "learns no more than its teacher knows. For a better one train a Mask2Former for hours, then give its "
    "config by --teacher and its checkpoint by --teacher-weights."
)


def _about(data: UserData, path: Path) -> str:
    count = data.amounts
    return (
        f"Data: {path}: {count.labelled:,} pictures with labels and {count.unlabelled:,} without to learn "
        f"from, {count.held:,} to judge by; {len(data.classes)} classes: {', '.join(data.classes[:10])}."
    )


def _left_out(data: UserData, path: Path) -> list[str]:
    """Name the folders whose pictures are not learnt from, those of most pictures first."""
    if not data.left_out:
        return []
    ordered = sorted(data.left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    named = [f"{folder.relative_to(path.resolve())} ({count:,})" for folder, count in ordered[:_SHOWN]]
    more = f" and {len(ordered) - _SHOWN:,} more" if len(ordered) > _SHOWN else ""
    return [
        f"Left out: {sum(data.left_out.values()):,} pictures in folders that hold no picture that the JSON "
        f"lists, as folders of label maps do: {', '.join(named)}{more}. To learn from some of them, put them "
        "beside listed ones or into a folder called unlabelled, or list them without annotations."
    ]


def _absolute(reference: str | None) -> str | None:
    """Let a file be found from everywhere; what is in a package or far away is."""
    if reference is None or "::" in reference or "//" in reference:
        return reference
    return str(Path(reference).expanduser().resolve())


def _classes_in_order(classes: tuple[str, ...], config: str, weights: str) -> tuple[str, ...]:
    """Bring the data's classes into the order of the teacher's; refuse another teacher."""
    described = load_config(config)
    with quiet(MMLogger.get_current_instance()):
        teacher = build_teacher(config, weights)
    if not isinstance(teacher, MaskFormer):
        raise UserError(f"--teacher: expected a Mask2Former, found {config} with a {described.model.type}.")
    others = tuple(getattr(teacher, "trained_classes", ())) or _trained_on(described)
    count = teacher.panoptic_head.num_things_classes
    if sorted(others) != sorted(classes) or count != len(classes):
        raise UserError(
            f"--teacher: its classes must be those of the data. Expected {', '.join(classes)}; found "
            f"{', '.join(others)} ({count} in its model)."
        )
    return others


def _trained_on(config: Config) -> tuple[str, ...]:
    """Take the classes from a config whose checkpoint does not tell them, such as a published one."""
    init_default_scope(config.get("default_scope") or "mmdet")
    dataset = training_dataset_config(config)
    named = (dataset.get("metainfo") or {}).get("classes")
    return tuple(named or DATASETS.get(dataset["type"]).METAINFO["classes"])


def _side(data: UserData) -> int:
    return min(_SIDE, -(-data.side() // _DIVISOR) * _DIVISOR)


def _on_data(config: Config, folder: Path, data: UserData, amounts: Amounts) -> Config:
    """Lead every data set and metric of a config to the data, at their size."""
    former, side = config.size, _side(data)
    made = replaced(config, lambda value: (side, side) if _is(value, former) else value)
    for purpose in ("train", "val", "test"):
        loader = made[f"{purpose}_dataloader"]
        loader.num_workers = max(1, min(loader.num_workers, usable_cores() // 2))
        if purpose == "train":  # whole batches also of fewer pictures: the student alone has but the labelled
            loader.sampler = {"type": "InfiniteSampler", "shuffle": True}
        for node in dicts(loader.dataset):
            if "ann_file" in node:
                file = str(folder / (TRAIN if purpose == "train" else VAL))
                node.update(data_root="", data_prefix={"img": ""}, ann_file=file)
                node["metainfo"] = {"classes": data.classes}
                if purpose == "train":
                    node["indices"] = amounts.labelled
    for evaluator in (made.val_evaluator, made.test_evaluator):
        evaluator.ann_file = str(folder / VAL)
    return made


def _is(value: Any, size: Any) -> bool:
    return isinstance(value, list | tuple) and tuple(value) == tuple(size)


def _student(config: Config, folder: Path, data: UserData, amounts: Amounts) -> Config:
    made = _on_data(config, folder, data, amounts)
    made.model.bbox_head.num_classes = len(data.classes)
    return made


def _own_teacher(folder: Path, data: UserData, amounts: Amounts) -> Config:
    made = _on_data(load_config(TEACHER), folder, data, amounts)
    head, count = made.model.panoptic_head, len(data.classes)
    head.num_things_classes = made.model.panoptic_fusion_head.num_things_classes = count
    head.loss_cls.class_weight = [1.0] * count + [head.loss_cls.class_weight[-1]]
    return made


def _distilled(baseline: Config, distillation: Config, cache: str, amounts: Amounts) -> Config:
    """Give the student a teacher's part, as the distillation on Shapes has it."""
    made = Config(baseline.to_dict())
    made.model = ConfigDict({**distillation.model, "architecture": made.model})
    made.default_hooks = {**(baseline.get("default_hooks") or {}), **distillation.default_hooks}
    made.teacher_cache = {**distillation.teacher_cache, "path": cache}
    mixed = made.train_dataloader.dataset
    mixed.pipeline = [*mixed.pipeline, {"type": "ibkd_mm.SplitTeacherInstances", "cache": cache}]
    riders = {"type": "ibkd_mm.LoadTeacherInstances", "cache": cache}
    labelled = {**mixed.dataset, "pipeline": [*mixed.dataset.pipeline, riders]}
    if not amounts.unlabelled:
        mixed.dataset = labelled
        return made
    bare = [
        mixed.dataset.pipeline[0],
        {"type": "ibkd_mm.NoAnnotations"},
        {**riders, "pseudo_label_thr": _SURE},
    ]
    rest = list(range(amounts.labelled, amounts.training))
    unlabelled = {**mixed.dataset, "pipeline": bare, "indices": rest}
    times = max(1, round(amounts.unlabelled / amounts.labelled / (_LABELLED_SHARE - 1)))
    often = {"type": "RepeatDataset", "times": times, "dataset": labelled}
    mixed.dataset = ConfigDict({"type": "ConcatDataset", "datasets": [often, unlabelled]})
    return made
