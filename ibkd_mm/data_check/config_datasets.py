"""Find the datasets of a config's dataloaders, without duplicates and without wrappers."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ibkd_mm.config.walk import dicts, leaf_datasets
from ibkd_mm.errors import UserError


@dataclass(frozen=True)
class CheckedDataset:
    """A dataset to check: built, but its annotations not loaded yet; equal ones need only one check.

    Its name is that of its dataloader, with an index if that has several. Settings are without the pipeline.
    """

    name: str = field(compare=False)
    dataset: BaseDataset = field(compare=False)
    is_training: bool
    loads_masks: bool
    applies_exif: bool
    settings: Mapping[str, Any]


def find_datasets(config: Config) -> list[CheckedDataset]:
    """Return the datasets of all dataloaders; equal ones (often val and test) are merged under both names."""
    found: list[CheckedDataset] = []
    for loader in ("train", "val", "test"):
        settings = (config.get(f"{loader}_dataloader") or {}).get("dataset")
        leaves = list(leaf_datasets(settings)) if settings else []
        for index, leaf in enumerate(leaves):
            name = loader if len(leaves) == 1 else f"{loader}[{index}]"
            new = _build(name, leaf, settings, is_training=loader == "train")
            if new in found:
                place = found.index(new)
                found[place] = replace(found[place], name=f"{found[place].name}, {name}")
            else:
                found.append(new)
    if not found:
        raise UserError(
            f"{config.filename or 'The config'} names no data: expected a dataset in train_dataloader, "
            "val_dataloader or test_dataloader. Is it a base config, like those in _base_/?"
        )
    return found


def _build(name: str, leaf: Mapping[str, Any], loader_dataset: Any, *, is_training: bool) -> CheckedDataset:
    """Build a dataset without its pipeline and without loading annotations, which the check does itself."""
    settings = {key: value for key, value in leaf.items() if key != "pipeline"}
    kind = settings.get("type")
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(settings.get("_scope_")) as registry:
            kind = registry.get(kind)
    if isinstance(kind, type) and not issubclass(kind, BaseDataset):
        expected = f"expected a subclass of mmengine.dataset.BaseDataset, found {kind.__name__}"
        raise UserError(f"Cannot check the dataset of {name}: {expected}.")
    transforms = list(dicts(loader_dataset))
    colour_types = [str(transform.get("color_type", "color")) for transform in transforms]
    ignores_exif = any(each == "unchanged" or each.endswith("ignore_orientation") for each in colour_types)
    return CheckedDataset(
        name,
        DATASETS.build(ConfigDict({**copy.deepcopy(settings), "lazy_init": True})),
        is_training=is_training,
        loads_masks=any(transform.get("with_mask") for transform in transforms),
        applies_exif=not ignores_exif,  # mmcv's loader rotates images unless `color_type` forbids it
        settings=settings,
    )
