"""Runs a teacher once over images and writes its predictions to a cache."""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Subset

from ibkd_mm.distill.interfaces import CachePredictor, Prediction
from ibkd_mm.errors import UserError
from ibkd_mm.offline.images import TeacherImages, UnreadableImage
from ibkd_mm.offline.store import CacheReader, CacheWriter

_PART_SUFFIX = re.compile(r"\.part\d+")


def build_cache(
    predictor: CachePredictor,
    images: TeacherImages,
    path: Path,
    identity: dict[str, Any],
    *,
    batch_size: int,
    workers: int,
    unreadable: float = 0.0,
) -> Iterator[tuple[int, int]]:
    """Write the entries that the cache lacks; yield (images done, images in all) after each batch.

    A thread packs and writes one batch while the teacher sees the next. A batch is in the file when the next
    one is yielded, the last when the iterator ends or is closed. With several processes, each writes a file
    of its own, and the first one merges them, also those left by a run that was stopped. Images are sorted by
    size, since only those of one size share a batch; a share of them may be `unreadable`.
    """
    rank, world = get_rank(), get_world_size()
    own_path = path if world == 1 else part_of(path, rank)
    if rank == 0:
        _merge_parts(path, identity)
    barrier()
    with CacheReader(path) as reader:
        cached = set(reader.keys())
    keys = images.keys
    missing = [index for index, key in enumerate(keys) if key not in cached]
    own = sorted(missing, key=images.sizes.__getitem__)[rank::world]
    loader: DataLoader[Any] = DataLoader(
        Subset(images, own), batch_size, num_workers=workers, collate_fn=_collate
    )
    done, left_out = len(keys) - len(missing), 0
    written: Future[None] = Future()
    written.set_result(None)
    with CacheWriter(own_path, identity) as writer, ThreadPoolExecutor(1) as thread:
        yield done, len(keys)
        for batch, unread in loader:
            left_out += len(unread)
            _report_unreadable(unread, left_out, math.ceil(unreadable * len(keys) / world))
            predictions = predict(predictor, batch) if batch else []
            written.result()
            written = thread.submit(writer.write, ((each.key, each.entry()) for each in predictions))
            done += (len(predictions) + len(unread)) * world
            yield min(done, len(keys)), len(keys)
        written.result()
    barrier()
    if rank == 0:
        _merge_parts(path, identity)
    barrier()


def predict(predictor: CachePredictor, batch: Any) -> list[Prediction]:
    """Predict the images of a collated batch in groups of one size: padding would change predictions."""
    groups: dict[Sequence[int], list[int]] = {}
    for index, image in enumerate(batch["inputs"]):
        groups.setdefault(tuple(image.shape), []).append(index)
    parts = [{name: [batch[name][at] for at in group] for name in batch} for group in groups.values()]
    return [prediction for part in parts for prediction in predictor(part)]


def part_of(path: Path, rank: int) -> Path:
    """Return the path of one process's own file."""
    return path.with_name(f"{path.name}.part{rank}")


def _collate(samples: Sequence[Any]) -> tuple[Any, list[UnreadableImage]]:
    read = [sample for sample in samples if not isinstance(sample, UnreadableImage)]
    unread = [sample for sample in samples if isinstance(sample, UnreadableImage)]
    return pseudo_collate(read) if read else None, unread


def _report_unreadable(unread: Sequence[UnreadableImage], count: int, limit: int) -> None:
    for each in unread:
        print_log(f"Left out, since it cannot be read: {each}", "current", logging.WARNING)
    if count > limit:
        raise UserError(
            f"{count} images cannot be read, and default_hooks.bad_samples.share accepts {limit}. The last: "
            f"{unread[-1]}. Repair or remove it; the entries written so far are kept."
        )


def _merge_parts(path: Path, identity: dict[str, Any]) -> None:
    """Merge the files of all processes, however many there were."""
    with CacheWriter(path, identity) as writer:
        siblings = path.parent.iterdir()
        parts = [each for each in siblings if _PART_SUFFIX.fullmatch(each.name.removeprefix(path.name))]
        writer.merge(parts)
    for part in parts:
        part.unlink()
