"""A teacher run once over pictures, as a Python call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, init_dist, is_distributed
from mmengine.registry import MODELS
from mmengine.utils import ProgressBar

from ibkd_mm.config.load import ConfigLike, Options, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher, check_order
from ibkd_mm.engine.distributed import destroy_processes, init_processes
from ibkd_mm.errors import UserError
from ibkd_mm.offline.build_cache import InstancePredictor, build_cache
from ibkd_mm.offline.identity import identity_of, kept
from ibkd_mm.offline.images import (
    FolderImages,
    TrainingSetImages,
    test_pipeline,
    training_classes,
    training_dataset_config,
)
from ibkd_mm.offline.instance_codec import mask_thresholds_of, min_component_ratio_of
from ibkd_mm.offline.store import CacheReader
from ibkd_mm.offline.verify import Verified, verify


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds."""

    path: Path
    pictures: int
    instances: int
    identity: dict[str, Any]
    verified: Verified | None = None

    @property
    def exit_code(self) -> int:
        """1 where a look again found something else."""
        return int(self.verified is not None and not self.verified.same)

    def __str__(self) -> str:
        size = self.path.stat().st_size
        mean = f", {size / self.pictures / 1024:.2f} KB a picture" if self.pictures else ""
        amounts = f"{self.pictures:,} pictures, {self.instances:,} instances, {size / 2**20:.1f} MB{mean}"
        lines = [f"{self.path}: {amounts}"]
        lines += [f"  {name}: {value}" for name, value in self.identity.items()]
        return "\n".join([*lines, *([str(self.verified)] if self.verified else [])])


def cache_info(path: str | Path) -> CacheInfo:
    """Tell what a cache holds."""
    with CacheReader(path) as reader:
        return CacheInfo(Path(path), *reader.counts(), reader.identity)


def cache(
    config: ConfigLike,
    *,
    options: Options = None,
    out: str | None = None,
    images: str | None = None,
    launcher: str = "none",
    check: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CacheInfo:
    """Run the teacher of a distillation's config over its training pictures, or go on with that.

    Args:
        config: a config, its path, or `package::path`.
        options: settings to override, as for `load_config`.
        out: the file; else the config's `teacher_cache.path`.
        images: a folder of pictures that nobody labelled, in place of the training set.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        check: run so many pictures of a cache that is there again, and compare; nothing is written.
        progress: is given how many pictures are done of how many, in place of a line that says so.
    """
    ready = prepare_config(config, options)
    _check_teacher(ready)
    settings = ready.teacher_cache
    path = Path(out or settings.path)
    if path.is_dir():
        raise UserError(f"Expected a file as the teacher's cache, found the folder {path}.")
    init_processes(ready, launcher)
    if launcher != "none" and not is_distributed():  # with CUDA that is left to a runner, and here is none
        init_dist(launcher, **(ready.get("env_cfg") or {}).get("dist_cfg", {}))
    with user_errors(ready):
        pipeline = test_pipeline(ready)
        pictures = (
            FolderImages(Path(images), pipeline)
            if images
            else TrainingSetImages(training_dataset_config(ready), pipeline)
        )
        classes = training_classes(ready)
        teacher = ready.model.teacher, ready.model.get("teacher_ckpt")
        identity = identity_of(*teacher, pictures.source, pipeline, kept(settings), classes)
        run = build_predictor(ready)
        check_order(run.teacher.model, classes)
        verified = None
        if check:
            verified = verify(run, pictures, path, identity, check)
        else:
            guard = (ready.get("default_hooks") or {}).get("bad_samples") or {}
            _make(run, pictures, path, identity, settings, guard.get("share", 1.0), progress)
    destroy_processes()
    with CacheReader(path) as reader:
        return CacheInfo(path, *reader.counts(), reader.identity, verified)


def _make(
    run: InstancePredictor,
    pictures: Any,
    path: Path,
    identity: dict[str, Any],
    settings: Any,
    unreadable: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    # on a CPU the teacher itself wants the cores
    workers = settings.get("workers", 2 if torch.cuda.is_available() else 0)
    steps = build_cache(
        run,
        pictures,
        path,
        identity,
        batch_size=settings.batch_size,
        workers=workers,
        unreadable=unreadable,
    )
    if get_rank():  # one process reports for all
        progress = _silent
    if progress is None:
        _show(steps, path)
        return
    for done, total in steps:
        progress(done, total)


def _silent(done: int, total: int) -> None:
    """Take the place of a line."""


def _show(steps: Iterator[tuple[int, int]], path: Path) -> None:
    done, total = next(steps)
    if done:
        print(f"{path}: {done:,} of {total:,} pictures are there; going on.")
    bar = ProgressBar(total - done) if done < total else None
    for now, _ in steps:
        if bar is not None:
            bar.update(now - done)
        done = now
    if bar is not None:
        print()


def build_predictor(config: Config) -> InstancePredictor:
    """Make what `cache` runs over pictures, as a config says."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student = config.model.architecture
    preprocessor = MODELS.build(student.data_preprocessor).to(device)
    teacher = build_teacher(config.model.teacher, config.model.get("teacher_ckpt")).to(device)
    settings = config.teacher_cache
    connector, frozen = MODELS.build(settings.instances), FrozenTeacher(teacher, preprocessor)
    limits = mask_thresholds_of(settings), min_component_ratio_of(settings)
    return InstancePredictor(frozen, preprocessor, connector, settings.top, *limits)


def _check_teacher(config: Config) -> None:
    if config.get("teacher_cache") is None or config.model.get("teacher") is None:
        raise UserError(
            f"{config.filename or 'The config'} has no teacher to cache: expected a distillation's, with "
            "model.teacher and teacher_cache, as those in ibkd_mm::ibkd/ are."
        )
