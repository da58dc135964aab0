"""Checks before a training that its teacher's cache fits the config."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.datasets.image_folder import ImageFolder
from ibkd_mm.engine.dataset_tree import walk_datasets, walk_transforms
from ibkd_mm.errors import UserError
from ibkd_mm.offline.cached_instance_transforms import LoadTeacherInstances
from ibkd_mm.offline.identity import identity_of, images_hash
from ibkd_mm.offline.images import test_pipeline
from ibkd_mm.offline.store import CacheReader, check_same
from ibkd_mm.registry import HOOKS

_EFFECTS = (
    ("training images", "trained on without the teacher"),
    ("training images without labels", "left out"),
)


@HOOKS.register_module()
class CacheCheckHook(Hook):
    """Refuse a cache of another teacher, other images or another input size, and count missing images.

    The cache must have the identity that `ibkd cache` would give it now. A dataset without labels is also
    refused if pseudo labels are off, or if the cache has none of its images.

    Acts before_train.

    Args:
        images: whether the cache must be of the training set's own annotation file. Set it to False to train
            with a cache that was written for a folder.
    """

    def __init__(self, images: bool = True) -> None:
        self.images = images

    def before_train(self, runner: Runner) -> None:
        """Compare every cache that a pipeline reads with the config."""
        datasets = _find_datasets(runner.train_dataloader.dataset)
        readers = {each.loading.reader.path: each.loading.reader for each in datasets}
        if not readers:
            raise UserError(
                "CacheCheckHook finds no LoadTeacherInstances in train_dataloader.dataset. Put it after "
                "LoadAnnotations, or set default_hooks.cache_check=None."
            )
        if any(each.unlabelled and each.loading.pseudo_label_thr is None for each in datasets):
            raise UserError(
                "A pipeline with NoAnnotations has LoadTeacherInstances without pseudo_label_thr: its images "
                "would be learnt as empty. Set pseudo_label_thr=0.5, or load their annotations."
            )
        config = runner.cfg
        teacher = config.model.teacher, config.model.get("teacher_ckpt")
        classes = runner.train_dataloader.dataset.metainfo.get("classes") or ()
        wanted = identity_of(*teacher, None, test_pipeline(config), config.teacher_cache, classes)
        for path, reader in readers.items():
            own = [each for each in datasets if each.loading.reader.path == path]
            found = reader.identity
            parts = [each.dataset for each in own if self.images]
            sources = {Path(each.ann_file or each.data_root) for each in parts}
            unknown = {} if classes else {"classes": found.get("classes")}  # a folder has no classes
            for images in map(images_hash, sources) if sources else [found["images"]]:
                check_same(path, found, {**wanted, **unknown, "images": images})
            _count_missing(runner, reader, own)


@dataclass(frozen=True)
class _CachedDataset:
    """A dataset whose own pipeline reads a cache."""

    dataset: Any
    loading: LoadTeacherInstances
    unlabelled: bool  # or its labels are not used

    def keys(self) -> tuple[list[str], list[str]]:
        """Return the keys of labelled (or empty) images, and of those with pseudo labels alone."""
        labelled: list[str] = []
        pseudo_labelled: list[str] = []
        for index in range(len(self.dataset)):
            info = self.dataset.get_data_info(index)
            empty = self.unlabelled or not info.get("instances")
            needs_teacher = self.loading.pseudo_label_thr is not None and empty
            (pseudo_labelled if needs_teacher else labelled).append(str(info["img_id"]))
        return labelled, pseudo_labelled


def _find_datasets(dataset: Any) -> list[_CachedDataset]:
    found: dict[int, _CachedDataset] = {}
    for each in walk_datasets(dataset):
        transforms = list(walk_transforms(each))
        unlabelled = any(getattr(transform, "removes_labels", False) for transform in transforms)
        loading = [transform for transform in transforms if isinstance(transform, LoadTeacherInstances)]
        # wrappers come first and show the attributes of the dataset inside: the innermost one counts
        found.update({id(transform): _CachedDataset(each, transform, unlabelled) for transform in loading})
    return list(found.values())


def _count_missing(runner: Runner, reader: CacheReader, datasets: Iterable[_CachedDataset]) -> None:
    cached = set(reader.keys())
    runner.logger.info(f"{reader.path}: predictions of {len(cached):,} images.")
    missing, total = [0, 0], [0, 0]
    for each in datasets:
        labelled, pseudo_labelled = each.keys()
        if pseudo_labelled and not labelled and cached.isdisjoint(pseudo_labelled):
            raise _nothing_cached(each.dataset, pseudo_labelled, reader)
        for kind, keys in enumerate((labelled, pseudo_labelled)):
            missing[kind] += sum(key not in cached for key in keys)
            total[kind] += len(keys)
    for (images, effect), number, of in zip(_EFFECTS, missing, total, strict=True):
        if number:
            runner.logger.warning(
                f"{number:,} of {of:,} {images} are not among them and are {effect}. "
                "`ibkd cache` continues where it stopped."
            )


def _nothing_cached(dataset: Any, keys: Sequence[str], reader: CacheReader) -> UserError:
    remedy = "Write them: ibkd cache CONFIG continues where it stopped."
    if isinstance(dataset, ImageFolder):
        remedy = (
            "The key of an image is its path in the folder: set data_root to the folder that the cache was "
            f"written for, or write one for this: ibkd cache CONFIG --images {dataset.data_root} --out FILE."
        )
    return UserError(
        f"The {len(keys):,} images of a {type(dataset).__name__} have no labels, and the teacher's cache "
        f"{reader.path} has none of them. Expected {_first(keys)}, found {_first(reader.keys())}. {remedy}"
    )


def _first(keys: Sequence[str]) -> str:
    return ", ".join([*keys[:3], *(["..."] if len(keys) > 3 else [])]) or "no image"
