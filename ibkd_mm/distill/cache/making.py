"""Running a teacher over pictures once."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import barrier, get_rank, get_world_size
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from ibkd_mm.datasets.transforms.warp import extents
from ibkd_mm.distill.cache.entry import CachedEntry
from ibkd_mm.distill.cache.pictures import Pictures
from ibkd_mm.distill.cache.store import CacheReader, CacheWriter
from ibkd_mm.distill.instances import TeacherInstances
from ibkd_mm.distill.teacher import FrozenTeacher

_PART = re.compile(r"\.part\d+")
"""What the name of a process's own file has behind that of the whole."""


class TeacherRun:
    """Says what a teacher sees in a batch, in the pictures as they lie on the disk.

    Args:
        teacher: frozen.
        preprocessor: the student's.
        connector: makes instances of what the teacher puts out.
        top: how many classes of an instance are kept.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        preprocessor: nn.Module,
        connector: Callable[[Any], TeacherInstances],
        top: int,
    ) -> None:
        self.teacher, self.preprocessor = teacher, preprocessor
        self.connector, self.top = connector, top

    @torch.no_grad()
    def entries(self, batch: Any) -> list[tuple[str, CachedEntry]]:
        """Give each picture's key and what was seen in it, whichever pictures stand beside it.

        Pictures of different sizes would be padded, and what is padded the teacher sees, too.
        """
        sizes: dict[Sequence[int], list[int]] = {}
        for index, picture in enumerate(batch["inputs"]):
            sizes.setdefault(tuple(picture.shape), []).append(index)
        parts = [{name: [batch[name][at] for at in chosen] for name in batch} for chosen in sizes.values()]
        return [entry for part in parts for entry in self._of_one_size(part)]

    def _of_one_size(self, batch: Any) -> list[tuple[str, CachedEntry]]:
        data = self.preprocessor(batch, False)
        inputs, samples = data["inputs"], data["data_samples"]
        seen = self.connector(self.teacher.outputs(inputs, samples))
        return [
            (str(sample.metainfo["img_id"]), self._entry(seen, seen.image == index, inputs.shape[2:], sample))
            for index, sample in enumerate(samples)
        ]

    def _entry(self, seen: TeacherInstances, own: Tensor, size: Sequence[int], sample: Any) -> CachedEntry:
        masks = _in_picture(seen.mask_logits[own], size, sample.metainfo)
        kept = masks.flatten(1).any(1)
        arrays = (seen.scores[own][kept], seen.probabilities[own][kept], masks[kept].to(torch.uint8))
        scores, probabilities, pixels = (each.cpu().numpy() for each in arrays)
        boxes = np.array([extents(mask) for mask in pixels], np.float32).reshape(-1, 4)
        return CachedEntry.of(boxes, scores, probabilities, pixels, self.top)


def _in_picture(logits: Tensor, size: Sequence[int], meta: Any) -> Tensor:
    """Enlarge (K, h, w) logits over the whole input to the picture as it lies on the disk, -> booleans."""
    (height, width), shown = meta["ori_shape"][:2], meta["img_shape"][:2]
    if not len(logits):
        return logits.new_zeros(0, height, width, dtype=torch.bool)
    whole = F.interpolate(logits[:, None], tuple(size), mode="bilinear")[:, :, : shown[0], : shown[1]]
    if tuple(shown) != (height, width):
        whole = F.interpolate(whole, (height, width), mode="bilinear")
    return whole[:, 0] > 0


def part_of(path: Path, rank: int) -> Path:
    """Name the file that a process writes by itself."""
    return path.with_name(f"{path.name}.part{rank}")


def make_cache(
    run: TeacherRun,
    pictures: Pictures,
    path: Path,
    identity: dict[str, Any],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[int, int]]:
    """Write what is lacking, and yield after each batch how many pictures are done of how many.

    Each process of several writes a file of its own; the first one then takes them all in. It begins with
    those that were left when they were stopped, so that all agree on what is lacking.
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
    mine = lacking[rank::world]
    loader: DataLoader[Any] = DataLoader(
        Subset(pictures, mine), batch_size, num_workers=workers, collate_fn=pseudo_collate
    )
    count = len(keys) - len(lacking)
    with CacheWriter(own, identity) as writer:
        yield count, len(keys)
        for batch in loader:
            entries = run.entries(batch)
            writer.write(entries)
            count += len(entries) * world
            yield min(count, len(keys)), len(keys)
    barrier()
    if rank == 0:
        _gather(path, identity)
    barrier()


def _gather(path: Path, identity: dict[str, Any]) -> None:
    """Take in what processes wrote by themselves, however many they were."""
    with CacheWriter(path, identity) as writer:
        parts = [each for each in path.parent.iterdir() if _PART.fullmatch(each.name.removeprefix(path.name))]
        writer.merge(parts)
    for part in parts:
        part.unlink()
