"""The images that a teacher is run on, each transformed as in its own test."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ibkd_mm.config.walk import innermost_dataset, leaf_datasets
from ibkd_mm.datasets.image_folder import ImageFolder
from ibkd_mm.errors import UserError

_SELECTION = ("indices", "pipeline", "filter_cfg")


@dataclass(frozen=True)
class UnreadableImage:
    """Stands for an image that cannot be read."""

    key: str
    error: str

    def __str__(self) -> str:
        return f"{self.key}: {self.error}"


class TeacherImages(Dataset[Any]):
    """Images of a dataset with a test pipeline; `source` is the file or folder that lists them.

    `keys` are their `img_id`; `sizes` their width and height, if the annotation file has them.
    """

    def __init__(self, dataset: BaseDataset, source: Path) -> None:
        self.dataset, self.source = dataset, source
        self.keys: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            self.keys.append(str(info["img_id"]))
            self.sizes.append((info.get("width", 0), info.get("height", 0)))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:  # whatever is wrong with one image must not stop the run
            return UnreadableImage(self.keys[index], f"{type(error).__name__}: {error}")


class FolderImages(TeacherImages):
    """All images below a folder; their keys are their paths in it."""

    def __init__(self, folder: Path, pipeline: Sequence[Any]) -> None:
        super().__init__(ImageFolder(str(folder), pipeline=list(pipeline), test_mode=True), folder)


class TrainingSetImages(TeacherImages):
    """The images of a training set, whose settings are without wrappers, and without augmentation."""

    def __init__(self, dataset: dict[str, Any], pipeline: Sequence[Any]) -> None:
        # test_mode, so that images without annotations are not filtered out
        built = DATASETS.build({**dataset, "pipeline": list(pipeline), "test_mode": True})
        super().__init__(built, Path(built.ann_file))


def training_dataset_config(config: Config) -> dict[str, Any]:
    """Return the settings of a config's training set, without the datasets that wrap or join it.

    Joined parts of one annotation file count as one training set.
    """
    found = list(leaf_datasets(config.train_dataloader.dataset))
    if len(found) > 1:
        found = [{key: value for key, value in each.items() if key not in _SELECTION} for each in found]
    if any(each != found[0] for each in found) or not {"ann_file", "spec"} & set(found[0]):
        types = ", ".join(dict.fromkeys(str(each.get("type")) for each in found))
        raise UserError(
            f"Expected one training set with an annotation file, found {types}. Cache the parts of joined "
            "datasets one by one, or give --images FOLDER."
        )
    return copy.deepcopy(found[0])


def training_classes(config: Config) -> tuple[str, ...]:
    """Return the classes of a config's training set; of joined ones, those of the first."""
    innermost = innermost_dataset(config.train_dataloader.dataset)
    built = DATASETS.build({**innermost, "pipeline": [], "lazy_init": True})
    return tuple(built.metainfo.get("classes") or ())


def test_pipeline(config: Config) -> list[Any]:
    """Return the validation transforms, without those that need annotations."""
    transforms = config.val_dataloader.dataset.pipeline
    kept = [each for each in transforms if "Annotations" not in str(each["type"])]
    if not kept or "Pack" not in str(kept[-1]["type"]):
        raise UserError("Expected val_dataloader.dataset.pipeline to end with PackDetInputs.")
    meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return [*kept[:-1], {**kept[-1], "meta_keys": meta}]
