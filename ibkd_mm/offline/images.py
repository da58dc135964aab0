"""Which pictures a teacher is run on, each as its own test would show it."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.datasets.image_folder import ImageFolder
from ibkd_mm.errors import UserError

_OF_A_PART = ("indices", "pipeline", "filter_cfg")


@dataclass(frozen=True)
class UnreadableImage:
    """Stands for a picture that cannot be read."""

    key: str
    error: str

    def __str__(self) -> str:
        return f"{self.key}: {self.error}"


class Pictures(Dataset[Any]):
    """Pictures to run a teacher on.

    Args:
        dataset: of the pictures, with all the transforms that they go through.
        source: the file or folder that lists them.

    `keys` names them, as `img_id` does in their samples; `sizes` are width and height where a list has them.
    """

    def __init__(self, dataset: BaseDataset, source: Path) -> None:
        self.dataset, self.source = dataset, source
        self.keys: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        for index in range(len(dataset)):
            about = dataset.get_data_info(index)
            self.keys.append(str(about["img_id"]))
            self.sizes.append((about.get("width", 0), about.get("height", 0)))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Any:
        """Read a picture."""
        try:
            return self.dataset[index]
        except Exception as error:  # one of thousands is no reason to stop, whatever is wrong with it
            return UnreadableImage(self.keys[index], f"{type(error).__name__}: {error}")


class FolderImages(Pictures):
    """All pictures under a folder, called by their paths in it.

    Args:
        folder: looked through to the bottom.
        pipeline: of transforms, from `LoadImageFromFile` on.
    """

    def __init__(self, folder: Path, pipeline: Sequence[Any]) -> None:
        super().__init__(ImageFolder(str(folder), pipeline=list(pipeline), test_mode=True), folder)


class TrainingSetImages(Pictures):
    """The pictures of a config's training set, undistorted.

    Args:
        dataset: of the config, inside whatever mixes or repeats it.
        pipeline: as for `FolderImages`.
    """

    def __init__(self, dataset: dict[str, Any], pipeline: Sequence[Any]) -> None:
        # with annotations or without, every picture is asked for; what filters them is for training
        built = DATASETS.build({**dataset, "pipeline": list(pipeline), "test_mode": True})
        super().__init__(built, Path(built.ann_file))


def training_dataset_config(config: Config) -> dict[str, Any]:
    """Get the training set of a config out of whatever mixes, repeats or joins it.

    Parts of one annotation file are joined again: which pictures each of them takes is left out.
    """
    found = list(_bare(config.train_dataloader.dataset))
    if len(found) > 1:
        found = [{key: value for key, value in one.items() if key not in _OF_A_PART} for one in found]
    if any(one != found[0] for one in found) or not {"ann_file", "spec"} & set(found[0]):
        kinds = ", ".join(dict.fromkeys(str(one.get("type")) for one in found))
        raise UserError(
            f"Expected one training set with an annotation file, found {kinds}. Cache the parts of what "
            "joins several one by one, or give --images FOLDER."
        )
    return copy.deepcopy(found[0])


def _bare(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "dataset" in dataset:
        yield from _bare(dataset["dataset"])
    elif "datasets" in dataset:
        for part in dataset["datasets"]:
            yield from _bare(part)
    else:
        yield dataset


def training_classes(config: Config) -> tuple[str, ...]:
    """Name the classes of a config's training set; of joined ones, of the first."""
    bare = innermost_dataset(config.train_dataloader.dataset)
    built = DATASETS.build({**bare, "pipeline": [], "lazy_init": True})
    return tuple(built.metainfo.get("classes") or ())


def test_pipeline(config: Config) -> list[Any]:
    """Take the transforms of the validation, which need no annotations."""
    dataset = config.val_dataloader.dataset
    kept = [each for each in dataset.pipeline if "Annotations" not in str(each["type"])]
    if not kept or "Pack" not in str(kept[-1]["type"]):
        raise UserError("Expected val_dataloader.dataset.pipeline to end with PackDetInputs.")
    meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    return [*kept[:-1], {**kept[-1], "meta_keys": meta}]
