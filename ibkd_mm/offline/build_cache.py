"""Running a teacher over pictures once."""

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.distill.teacher import FrozenTeacher
from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances
from ibkd_mm.offline.images import Pictures, UnreadableImage
from ibkd_mm.offline.instance_codec import (
    HARD,
    CachedEntry,
    main_threshold,
    pack_mask,
    remove_small_components,
)
from ibkd_mm.offline.store import CacheReader, CacheWriter

_PART = re.compile(r"\.part\d+")
"""What the name of a process's own file has behind that of the whole."""


@dataclass(frozen=True)
class Seen:
    """A teacher's instances of one picture, their masks still those of its own grid."""

    instances: TeacherInstances
    size: Sequence[int]
    """Height and width of the network's input."""
    meta: Mapping[str, Any]
    """The picture's."""
    levels: tuple[float, ...] = HARD
    """The probabilities at which masks are cut."""
    min_component_ratio: float = 0.0
    """What the parts of a mask must have of its largest."""

    @property
    def key(self) -> str:
        """Name the picture."""
        return str(self.meta["img_id"])

    @torch.no_grad()
    def entry(self, top: int) -> CachedEntry:
        """Enlarge the masks to the picture, one by one, and keep of each instance what is small."""
        height, width = self.meta["ori_shape"][:2]
        kept, boxes, packed = [], [], []
        for row, logits in enumerate(self.instances.mask_logits):
            cut = _in_picture(logits, self.size, self.meta, self.levels).to(torch.uint8).cpu().numpy()
            masks = [remove_small_components(mask, self.min_component_ratio) for mask in cut]
            main = masks[main_threshold(self.levels)]
            if main.any():
                kept.append(row)
                boxes.append(extents(main))
                packed.append([pack_mask(mask) for mask in masks])
        scores, probabilities = (
            each[kept].cpu().numpy() for each in (self.instances.scores, self.instances.probabilities)
        )
        places = np.array(boxes, np.float32).reshape(-1, 4)
        by_level = chain.from_iterable(zip(*packed, strict=True))
        return CachedEntry.of_packed(
            (height, width), places, scores, probabilities, by_level, top, self.levels
        )


class InstancePredictor:
    """Says what a teacher sees in a batch, in the pictures as they lie on the disk.

    Args:
        teacher: frozen.
        preprocessor: the student's.
        connector: makes instances of what the teacher puts out.
        top: how many classes of an instance are kept.
        levels: the probabilities at which masks are cut.
        min_component_ratio: what the parts of a mask must have of its largest.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        preprocessor: nn.Module,
        connector: Callable[[Any], TeacherInstances],
        top: int,
        levels: tuple[float, ...] = HARD,
        min_component_ratio: float = 0.0,
    ) -> None:
        self.teacher, self.preprocessor = teacher, preprocessor
        self.connector, self.top, self.levels, self.min_component_ratio = (
            connector,
            top,
            levels,
            min_component_ratio,
        )

    def entries(self, batch: Any) -> list[tuple[str, CachedEntry]]:
        """Give each picture's key and entry."""
        return [(seen.key, seen.entry(self.top)) for seen in self.look(batch)]

    @torch.no_grad()
    def look(self, batch: Any) -> list[Seen]:
        """Give what is seen in each picture, whichever pictures stand beside it.

        Pictures of different sizes would be padded, and what is padded the teacher sees, too.
        """
        sizes: dict[Sequence[int], list[int]] = {}
        for index, picture in enumerate(batch["inputs"]):
            sizes.setdefault(tuple(picture.shape), []).append(index)
        parts = [{name: [batch[name][at] for at in chosen] for name in batch} for chosen in sizes.values()]
        return [seen for part in parts for seen in self._of_one_size(part)]

    def _of_one_size(self, batch: Any) -> list[Seen]:
        data = self.preprocessor(batch, False)
        inputs, samples = data["inputs"], data["data_samples"]
        seen = self.connector(self.teacher.outputs(inputs, samples))
        return [
            Seen(
                _chosen(seen, seen.image == index),
                inputs.shape[2:],
                sample.metainfo,
                self.levels,
                self.min_component_ratio,
            )
            for index, sample in enumerate(samples)
        ]


def _chosen(instances: TeacherInstances, which: Tensor) -> TeacherInstances:
    return TeacherInstances(*(getattr(instances, field.name)[which] for field in fields(instances)))


def _in_picture(logits: Tensor, size: Sequence[int], meta: Any, levels: Sequence[float]) -> Tensor:
    """Enlarge (h, w) logits over the whole input to the picture as it lies on the disk, and cut them.

    Returns:
        (L, height, width), booleans.
    """
    height, width = meta["ori_shape"][:2]
    across, down = meta.get("scale_factor", (1.0, 1.0))
    shown = round(height * down), round(width * across)  # img_shape has what a Pad added, too
    whole = F.interpolate(logits[None, None], tuple(size), mode="bilinear")[:, :, : shown[0], : shown[1]]
    if shown != (height, width):
        whole = F.interpolate(whole, (height, width), mode="bilinear")
    cuts = [math.log(level / (1 - level)) for level in levels]
    return whole[0] > whole.new_tensor(cuts)[:, None, None]


def part_of(path: Path, rank: int) -> Path:
    """Name the file that a process writes by itself."""
    return path.with_name(f"{path.name}.part{rank}")


def build_cache(
    run: InstancePredictor,
    pictures: Pictures,
    path: Path,
    identity: dict[str, Any],
    *,
    batch_size: int,
    workers: int,
    unreadable: float = 0.0,
) -> Iterator[tuple[int, int]]:
    """Write what is lacking, and yield after each batch how many pictures are done of how many.

    What was seen in a batch is made small and written while the teacher looks at the next; it is in the file
    when the last one was yielded, or when the iterator is closed.

    Each process of several writes a file of its own; the first one then takes them all in. It begins with
    those that were left when they were stopped, so that all agree on what is lacking.

    Args:
        run: the teacher.
        pictures: to look at; those of one size stand together, since only these are one batch to the teacher.
        path: the file.
        identity: what the entries depend on.
        batch_size: how many pictures are read, and written, at a time.
        workers: processes that read them; 0 for none besides this one.
        unreadable: the share of the pictures that may be left out because they cannot be read.
    """
    rank, world = get_rank(), get_world_size()
    own = path if world == 1 else part_of(path, rank)
    if rank == 0:
        _gather(path, identity)
    barrier()
    with CacheReader(path) as there:
        done = set(there.keys())
    keys = pictures.keys
    lacking = [index for index, key in enumerate(keys) if key not in done]
    mine = sorted(lacking, key=pictures.sizes.__getitem__)[rank::world]
    loader: DataLoader[Any] = DataLoader(
        Subset(pictures, mine), batch_size, num_workers=workers, collate_fn=_collate
    )
    count, left_out = len(keys) - len(lacking), 0
    written: Future[None] | None = None
    with CacheWriter(own, identity) as writer, ThreadPoolExecutor(1) as behind:
        yield count, len(keys)
        for batch, unread in loader:
            left_out += len(unread)
            _tell(unread, left_out, math.ceil(unreadable * len(keys) / world))
            seen = run.look(batch) if batch else []
            if written is not None:
                written.result()
            written = behind.submit(writer.write, ((each.key, each.entry(run.top)) for each in seen))
            count += (len(seen) + len(unread)) * world
            yield min(count, len(keys)), len(keys)
        if written is not None:
            written.result()
    barrier()
    if rank == 0:
        _gather(path, identity)
    barrier()


def _collate(samples: Sequence[Any]) -> tuple[Any, list[UnreadableImage]]:
    read = [sample for sample in samples if not isinstance(sample, UnreadableImage)]
    return pseudo_collate(read) if read else None, [
        each for each in samples if isinstance(each, UnreadableImage)
    ]


def _tell(unread: Sequence[UnreadableImage], count: int, most: int) -> None:
    """Name what cannot be read, and stop where it is too much."""
    for each in unread:
        print_log(f"Cannot be read and is left out: {each}", "current", logging.WARNING)
    if count > most:
        raise UserError(
            f"{count} pictures cannot be read, and default_hooks.bad_samples.share accepts {most}. The last: "
            f"{unread[-1]}. Mend it or take it out; what was written is kept."
        )


def _gather(path: Path, identity: dict[str, Any]) -> None:
    """Take in what processes wrote by themselves, however many they were."""
    with CacheWriter(path, identity) as writer:
        parts = [each for each in path.parent.iterdir() if _PART.fullmatch(each.name.removeprefix(path.name))]
        writer.merge(parts)
    for part in parts:
        part.unlink()
