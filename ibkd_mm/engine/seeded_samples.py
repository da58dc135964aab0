"""A data loader whose samples depend only on seed and position: a resumed training gets the same ones."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ibkd_mm.errors import UserError
from ibkd_mm.utils.rng import seed_everything

_ATTEMPTS = 10
_OWN_ATTRIBUTES = ("dataset", "seed", "rank", "error_log")
_LOADER_SETTINGS = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "multiprocessing_context"),
    *("generator", "prefetch_factor", "persistent_workers", "worker_init_fn"),
)


class SeededIndex(int):
    """The index of a sample in its dataset, with its position in the training: epoch, batch, slot."""

    position: tuple[int, ...]

    def __new__(cls, index: int, position: tuple[int, ...]) -> "SeededIndex":
        """Attach the position to the index."""
        self = super().__new__(cls, index)
        self.position = position
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededIndex, (int(self), self.position)


class PositionedBatches:
    """A batch sampler that yields `SeededIndex` and can start at any batch of any epoch.

    `epoch` counts passes over the data, `consumed` the batches of this epoch that were trained on.
    """

    def __init__(self, batch_sampler: Any) -> None:
        self.batch_sampler, self.sampler = batch_sampler, batch_sampler.sampler
        self.batch_size = int(batch_sampler.batch_size)
        self.is_infinite = hasattr(self.sampler, "skip")  # as mmengine's InfiniteSampler, which never ends
        self.epoch = self.consumed = 0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(self.epoch)
        if self.is_infinite:
            self.sampler.skip(0)  # restart it: batches are counted from its start
        epoch, start = self.epoch, self.consumed
        for number, batch in enumerate(self.batch_sampler):
            if number >= start:
                yield [SeededIndex(index, (epoch, number, slot)) for slot, index in enumerate(batch)]

    def start_epoch(self, epoch: int) -> int:
        """Start or continue an epoch; return how many of its batches were trained on."""
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0
        return self.consumed

    def check_not_empty(self) -> None:
        """Raise UserError if this epoch had no batch; the training would loop forever or train nothing."""
        if not self.consumed:
            raise UserError("The train_dataloader yields no batch. Is its dataset smaller than a batch?")


class SeededDataset(Dataset[Any]):
    """A dataset that seeds every sample by its position and lists in `error_log` those that it must replace.

    All other attributes are read from and set on the wrapped dataset, since hooks change its pipeline.
    """

    def __init__(self, dataset: Any, seed: int, rank: int, error_log: Path) -> None:
        self.__dict__.update(dataset=dataset, seed=seed, rank=rank, error_log=error_log)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN_ATTRIBUTES or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN_ATTRIBUTES:
            self.__dict__[name] = value
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, SeededIndex):
            return self.dataset[index]
        chosen, errors = int(index), []
        for attempt in range(_ATTEMPTS):
            seed_everything(self.seed, self.rank, *index.position, attempt)
            if attempt:
                chosen = random.randrange(len(self.dataset))
            try:
                return self.dataset[chosen]
            except Exception as error:
                errors.append(error)
                sample, source = _origin(chosen, error)
                message = f"{type(error).__name__}: {error}"[:500]
                with self.error_log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"sample": sample, "source": source, "error": message}) + "\n")
        raise errors[0]


def _origin(index: int, error: Exception) -> tuple[int, str]:
    """Return index and annotation file of the failed sample in the innermost of nested datasets."""
    source = ""
    for frame, _ in walk_tb(error.__traceback__.tb_next if error.__traceback__ else None):
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "__getitem__" and isinstance(owner, Dataset):
            index = int(frame.f_locals[frame.f_code.co_varnames[1]])
            source = str(getattr(owner, "ann_file", ""))
    return index, source


def count_distinct_samples(dataset: Any) -> int:
    """Count the samples of a dataset; those that it repeats or mixes count once."""
    nested = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    counts = [count_distinct_samples(inner) for inner in nested if hasattr(inner, "metainfo")]
    return min(len(dataset), sum(counts)) if counts else len(dataset)


def seed_by_position(loader: DataLoader[Any], seed: int, rank: int, error_log: Path) -> DataLoader[Any]:
    """Rebuild a loader with `PositionedBatches` and a `SeededDataset`."""
    if loader.batch_sampler is None or not hasattr(loader.batch_sampler, "sampler"):
        raise UserError(
            "Expected a train_dataloader with batch_size and sampler, found one that makes its own batches; "
            "a training with it cannot be resumed."
        )
    batches: Any = PositionedBatches(loader.batch_sampler)
    settings: dict[str, Any] = {name: getattr(loader, name) for name in _LOADER_SETTINGS}
    return DataLoader(SeededDataset(loader.dataset, seed, rank, error_log), batch_sampler=batches, **settings)
