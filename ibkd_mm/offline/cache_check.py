"""Whether a teacher's cache is the one that a training is to learn from, asked before the first step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.datasets.image_folder import ImageFolder
from ibkd_mm.engine.dataset_tree import walk_datasets, walk_transforms
from ibkd_mm.errors import UserError
from ibkd_mm.offline.cached_instance_transforms import LoadTeacherInstances, NoAnnotations
from ibkd_mm.offline.identity import identity_of, kept, pictures_hash
from ibkd_mm.offline.images import test_pipeline
from ibkd_mm.offline.store import CacheReader, check_same
from ibkd_mm.registry import HOOKS

_FATES = (
    ("training pictures", "trained on without the teacher"),
    ("training pictures without labels", "left out"),
)


@HOOKS.register_module()
class CacheCheckHook(Hook):
    """Refuse a cache of another teacher, other pictures or another size, and count what it lacks.

    A data set without labels is refused, too, where the teacher's instances do not stand for them, or where
    the cache has none of its pictures.

    What it must have been made with is what `ibkd cache` would make it with now: the config's teacher, its
    weights, the annotation file and its classes, and the transforms of the validation.

    Acts before_train.

    Args:
        pictures: whether the cache must be of this very annotation file; not so for one of a folder.
    """

    def __init__(self, pictures: bool = True) -> None:
        self.pictures = pictures

    def before_train(self, runner: Runner) -> None:
        """Compare every cache that a pipeline reads with the config."""
        parts = _parts_of(runner.train_dataloader.dataset)
        readers = {each.loading.reader.path: each.loading.reader for each in parts}
        if not readers:
            raise UserError(
                "CacheCheckHook finds no LoadTeacherInstances in train_dataloader.dataset. Put it behind "
                "LoadAnnotations, or set default_hooks.cache_check=None."
            )
        if any(each.bare and each.loading.pseudo_label_thr is None for each in parts):
            raise UserError(
                "A pipeline with NoAnnotations has LoadTeacherInstances without pseudo_label_thr: its pictures "
                "would be learnt as if nothing were in them. Set pseudo_label_thr=0.5, or load their annotations."
            )
        config = runner.cfg
        pipeline = test_pipeline(config)
        teacher = config.model.teacher, config.model.get("teacher_ckpt")
        classes = runner.train_dataloader.dataset.metainfo.get("classes") or ()
        wanted = identity_of(*teacher, None, pipeline, kept(config.teacher_cache), classes)
        for path, reader in readers.items():
            own, found = [each for each in parts if each.loading.reader.path == path], reader.identity
            sources = {each.source for each in own} if self.pictures else set()
            unknown = {} if classes else {"classes": found.get("classes")}  # folders alone name none
            for pictures in map(pictures_hash, sources) if sources else [found["pictures"]]:
                check_same(path, found, {**wanted, **unknown, "pictures": pictures})
            _count(runner, reader, own)


@dataclass(frozen=True)
class _Part:
    """A data set whose own pipeline reads a cache."""

    dataset: Any
    loading: LoadTeacherInstances
    bare: bool
    """Whether its labels, if it has any, are not used."""

    @property
    def source(self) -> Path:
        """The file or folder that lists its pictures."""
        return Path(self.dataset.ann_file or self.dataset.data_root)

    def keys(self) -> tuple[list[str], list[str]]:
        """Name the pictures: what learns from the teacher or from labels, and what from the teacher alone."""
        others: list[str] = []
        trusting: list[str] = []
        for index in range(len(self.dataset)):
            about = self.dataset.get_data_info(index)
            alone = self.loading.pseudo_label_thr is not None and (self.bare or not about.get("instances"))
            (trusting if alone else others).append(str(about["img_id"]))
        return others, trusting


def _parts_of(dataset: Any) -> list[_Part]:
    """Find what reads a cache; each transform is the innermost data set's that has it."""
    found: dict[int, _Part] = {}
    for each in walk_datasets(dataset):
        own = list(walk_transforms(each))
        bare = any(isinstance(one, NoAnnotations) for one in own)
        # one that draws from another shows the other's attributes as its own
        found.update({id(it): _Part(each, it, bare) for it in own if isinstance(it, LoadTeacherInstances)})
    return list(found.values())


def _count(runner: Runner, reader: CacheReader, parts: Iterable[_Part]) -> None:
    there = set(reader.keys())
    runner.logger.info(f"{reader.path}: the teacher saw {len(there):,} pictures.")
    lacking, among = [0, 0], [0, 0]
    for part in parts:
        others, trusting = part.keys()
        if trusting and not others and there.isdisjoint(trusting):
            raise _none_of(part.dataset, trusting, reader)
        for kind, keys in enumerate((others, trusting)):
            lacking[kind] += sum(key not in there for key in keys)
            among[kind] += len(keys)
    for (pictures, fate), number, of in zip(_FATES, lacking, among, strict=True):
        if number:
            runner.logger.warning(
                f"{number:,} of {of:,} {pictures} are not among them and are {fate}. "
                "`ibkd cache` goes on where it stopped."
            )


def _none_of(dataset: Any, keys: Sequence[str], reader: CacheReader) -> UserError:
    if isinstance(dataset, ImageFolder):
        remedy = (
            "A picture is called by its path in the folder: set data_root to the folder that the cache was "
            f"made with, or write one of this: ibkd cache CONFIG --images {dataset.data_root} --out FILE."
        )
    else:
        remedy = "Write them: ibkd cache CONFIG goes on where it stopped."
    return UserError(
        f"The {len(keys):,} pictures of a {type(dataset).__name__} have no labels, and the teacher's cache "
        f"{reader.path} has none of them. Expected {_some(keys)}, found {_some(reader.keys())}. {remedy}"
    )


def _some(keys: Sequence[str]) -> str:
    return ", ".join([*keys[:3], *(["..."] if len(keys) > 3 else [])]) or "no picture"
