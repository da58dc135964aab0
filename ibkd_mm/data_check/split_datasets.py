"""The data sets behind a config's loaders, each once, out of whatever wraps them."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ibkd_mm.errors import UserError

LOADERS = ("train", "val", "test")


@dataclass(frozen=True)
class Part:
    """A data set to check: built, its annotations not yet read.

    `masks` tells whether its pipeline loads instance masks, `turned` whether it turns images as EXIF says,
    `settings` what it was built from, without the pipeline.
    """

    name: str
    dataset: BaseDataset
    masks: bool
    turned: bool
    settings: Mapping[str, Any]

    @property
    def is_trained_on(self) -> bool:
        """Tell whether it is of the training loader."""
        return self.name.startswith(LOADERS[0])

    def has_same_data(self, other: "Part") -> bool:
        """Tell whether a check of the other would find the same; what is trained on is never test data."""
        own, others = ((part.settings, part.masks, part.turned, part.is_trained_on) for part in (self, other))
        return own == others


def find_parts(config: Config) -> list[Part]:
    """Find the data sets of all loaders; those of val and test are often the same and then named together."""
    parts: list[Part] = []
    for loader in LOADERS:
        settings = (config.get(f"{loader}_dataloader") or {}).get("dataset")
        inner = list(_unwrapped(settings)) if settings else []
        for place, leaf in enumerate(inner):
            name = loader if len(inner) == 1 else f"{loader}[{place}]"
            bare = {key: value for key, value in leaf.items() if key != "pipeline"}
            part = Part(name, _built(bare, name), _loads_masks(settings), _turns(settings), bare)
            _enter(part, parts)
    if not parts:
        raise UserError(
            f"{config.filename or 'The config'} names no data: expected a dataset in train_dataloader, "
            "val_dataloader or test_dataloader. Is it a part that others inherit, as those in _base_/ are?"
        )
    return parts


def _enter(part: Part, parts: list[Part]) -> None:
    for place, known in enumerate(parts):
        if part.has_same_data(known):
            parts[place] = replace(known, name=f"{known.name}, {part.name}")
            return
    parts.append(part)


def _unwrapped(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Look into wrappers: ConcatDataset has `datasets`, RepeatDataset, MultiImageMixDataset ... `dataset`."""
    inner = [*settings.get("datasets", []), *([settings["dataset"]] if "dataset" in settings else [])]
    if not inner:
        yield settings
    for each in inner:
        yield from _unwrapped(each)


def _built(settings: Mapping[str, Any], name: str) -> BaseDataset:
    """Build without reading annotations: that is for the check to do, with care."""
    bare = ConfigDict(copy.deepcopy(dict(settings)))
    kind = bare.get("type")
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(bare.get("_scope_")) as registry:
            kind = registry.get(kind)
    if isinstance(kind, type) and not issubclass(kind, BaseDataset):
        raise UserError(
            f"Cannot check the data set of {name}: {kind.__name__} is no mmengine.dataset.BaseDataset, so "
            "what it reads is not known."
        )
    bare.update(lazy_init=True)
    return DATASETS.build(bare)


def _loads_masks(settings: Any) -> bool:
    return any(transform.get("with_mask") for transform in _dicts(settings))


def _turns(settings: Any) -> bool:
    """mmcv's loader turns images unless `color_type` says otherwise."""
    kinds = [str(transform.get("color_type", "color")) for transform in _dicts(settings)]
    return not any(kind == "unchanged" or kind.endswith("ignore_orientation") for kind in kinds)


def _dicts(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for inner in node:
            yield from _dicts(inner)
