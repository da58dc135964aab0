"""The call behind `ibkd cache`."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, init_dist, is_distributed

from ibkd_mm.apis.cache_predictor import build_predictor
from ibkd_mm.apis.run_config import add_defaults
from ibkd_mm.config.load import ConfigLike, Options, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.distill.teacher import check_class_order
from ibkd_mm.engine.distributed import destroy_processes, init_processes
from ibkd_mm.engine.hooks.bad_samples import DEFAULT_SHARE
from ibkd_mm.errors import UserError
from ibkd_mm.offline.build_cache import build_cache
from ibkd_mm.offline.identity import identity_of
from ibkd_mm.offline.images import (
    FolderImages,
    TrainingSetImages,
    test_pipeline,
    training_classes,
    training_dataset_config,
)
from ibkd_mm.offline.info import CacheInfo, cache_info
from ibkd_mm.offline.verify import verify
from ibkd_mm.utils.progress import Progress

OnProgress: TypeAlias = Callable[[int, int], None]


def cache(
    config: ConfigLike,
    *,
    options: Options = None,
    out: str | None = None,
    images: str | None = None,
    launcher: str = "none",
    check: int = 0,
    progress: OnProgress | None = None,
) -> CacheInfo:
    """Run the teacher of a distillation's config over its training images; continue an interrupted run.

    Args:
        out: the file; else the config's `teacher_cache.path`.
        images: a folder of unlabelled images, instead of the training set.
        check: number of images of an existing cache to predict again and compare; nothing is written.
        progress: is called with the number of images done and the total, instead of a progress bar.
    """
    ready = prepare_config(config, options, add_defaults=add_defaults)
    path = _check_settings(ready, out)
    init_processes(ready, launcher)
    if launcher != "none" and not is_distributed():  # no runner is built to do it
        init_dist(launcher, **(ready.get("env_cfg") or {}).get("dist_cfg", {}))
    with user_errors(ready):
        pipeline = test_pipeline(ready)
        source = (
            FolderImages(Path(images), pipeline)
            if images
            else TrainingSetImages(training_dataset_config(ready), pipeline)
        )
        classes = training_classes(ready)
        teacher = ready.model.teacher, ready.model.get("teacher_ckpt")
        identity = identity_of(*teacher, source.source, pipeline, ready.teacher_cache, classes)
        predictor = build_predictor(ready)
        check_class_order(predictor.teacher.model, classes)
        verified = verify(predictor, source, path, identity, check) if check else None
        if not check:
            # on a CPU the teacher itself needs the cores
            workers = ready.teacher_cache.get("workers", 2 if torch.cuda.is_available() else 0)
            guard = ready.default_hooks.bad_samples
            share = 1.0 if guard is None else guard.get("share", DEFAULT_SHARE)
            reading = {"batch_size": ready.teacher_cache.batch_size, "workers": workers, "unreadable": share}
            _run(build_cache(predictor, source, path, identity, **reading), path, progress)
    destroy_processes()
    return replace(cache_info(path), verified=verified)


def _check_settings(config: Config, out: str | None) -> Path:
    if config.get("teacher_cache") is None or config.model.get("teacher") is None:
        raise UserError(
            f"{config.filename or 'The config'} has no teacher to cache: expected a distillation's config, "
            "with model.teacher and teacher_cache, as those in ibkd_mm::ibkd/ are."
        )
    path = Path(out or config.teacher_cache.path)
    if path.is_dir():
        raise UserError(f"Expected a file as the teacher's cache, found the folder {path}.")
    return path


def _run(steps: Iterator[tuple[int, int]], path: Path, progress: OnProgress | None) -> None:
    done, total = next(steps)
    silent = progress is not None or get_rank() != 0
    if done and not silent:
        print(f"{path}: {done:,} of {total:,} images are cached; continuing.")
    with nullcontext() if silent else Progress(str(path), total, initial=done) as bar:
        for done, total in steps:
            if bar is not None:
                bar.update(done)
            elif progress is not None and get_rank() == 0:
                progress(done, total)
