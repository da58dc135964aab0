"""Samples drawn by place: what a loader yields depends on the seed and on where its stream stands.

So a training that goes on from a checkpoint sees the very samples, augmented in the very way, that it would
have seen without the stop, with any number of workers.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ibkd_mm.engine.resume.seeding import seed_everything
from ibkd_mm.errors import UserError

_ATTEMPTS = 10
_OWN = ("dataset", "seed", "rank", "faults")


class SeededIndex(int):
    """The index of a sample in its data set, and the place in the stream at which it is drawn."""

    place: tuple[int, ...]

    def __new__(cls, index: int, place: tuple[int, ...]) -> "SeededIndex":
        """Attach the place to the index."""
        self = super().__new__(cls, index)
        self.place = place
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededIndex, (int(self), self.place)


class PositionedBatches:
    """The batches of a batch sampler as draws, turn after turn, from any place on.

    `turn` counts passes over the data, `taken` the batches of this turn that were trained on.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.turn = 0
        self.taken = 0

    @property
    def sampler(self) -> Any:
        """The sampler under the batches."""
        return self.batches.sampler

    @property
    def batch_size(self) -> int:
        """Samples a batch."""
        return int(self.batches.batch_size)

    @property
    def endless(self) -> bool:
        """Whether the sampler never ends by itself, as mmengine's InfiniteSampler."""
        return hasattr(self.sampler, "skip")

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        """Yield what is left of this turn."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(self.turn)
        if self.endless:
            self.sampler.skip(0)  # it would go on from where it is, and batches are counted from its start
        turn, start = self.turn, self.taken
        for number, batch in enumerate(self.batches):
            if number >= start:
                yield [SeededIndex(index, (turn, number, slot)) for slot, index in enumerate(batch)]

    def begin(self, turn: int) -> int:
        """Go to a turn; say how many of its batches were trained on already."""
        if turn != self.turn:
            self.turn, self.taken = turn, 0
        return self.taken

    def require_batch(self) -> None:
        """Want that this turn had a batch; else a training goes round for ever, or ends unbegun."""
        if not self.taken:
            raise UserError("The train_dataloader yields no batch. Is its data set smaller than a batch?")


class SeededDataset(Dataset[Any]):
    """A data set whose samples are seeded by their draw; one that cannot be read is noted and replaced.

    Everything else is the data set's own: attributes are read from it and set on it, since hooks reach for
    the pipeline of a loader's data set.
    """

    def __init__(self, dataset: Any, seed: int, rank: int, faults: Path) -> None:
        self.__dict__.update(dataset=dataset, seed=seed, rank=rank, faults=faults)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            self.__dict__[name] = value
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Read a sample; after several that cannot be read in a row the fault is not in the samples."""
        if not isinstance(index, SeededIndex):
            return self.dataset[index]
        chosen, errors = int(index), []
        for attempt in range(_ATTEMPTS):
            seed_everything(self.seed, self.rank, *index.place, attempt)
            if attempt:
                chosen = random.randrange(len(self.dataset))
            try:
                return self.dataset[chosen]
            except Exception as error:
                errors.append(error)
                self._note(chosen, error)
        raise errors[0]

    def _note(self, index: int, error: Exception) -> None:
        sample, source = _origin(index, error)
        said = f"{type(error).__name__}: {error}"[:500]
        line = json.dumps({"sample": sample, "source": source, "error": said})
        with self.faults.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _origin(index: int, error: Exception) -> tuple[int, str]:
    """Find which sample failed, of which file: data sets repeat, join and mix those of others within them."""
    source = ""
    for frame, _ in walk_tb(error.__traceback__.tb_next if error.__traceback__ else None):
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "__getitem__" and isinstance(owner, Dataset):
            index = int(frame.f_locals[frame.f_code.co_varnames[1]])
            source = str(getattr(owner, "ann_file", ""))
    return index, source


def count_distinct_samples(dataset: Any) -> int:
    """Count the samples of a data set, of one that repeats or mixes those of others once each."""
    within = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    counts = [count_distinct_samples(one) for one in within if hasattr(one, "metainfo")]
    return min(len(dataset), sum(counts)) if counts else len(dataset)


def seed_by_position(loader: DataLoader[Any], seed: int, rank: int, faults: Path) -> DataLoader[Any]:
    """Build a loader again so that it draws by place."""
    if loader.batch_sampler is None or not hasattr(loader.batch_sampler, "sampler"):
        raise UserError(
            "Expected a train_dataloader with batch_size and sampler, found one that makes its own batches; "
            "a training over it could not be resumed."
        )
    batches: Any = PositionedBatches(loader.batch_sampler)
    kept: Sequence[str] = (
        *("num_workers", "collate_fn", "pin_memory", "timeout", "multiprocessing_context"),
        *("generator", "prefetch_factor", "persistent_workers", "worker_init_fn"),
    )
    return DataLoader(
        SeededDataset(loader.dataset, seed, rank, faults),
        batch_sampler=batches,
        **{name: getattr(loader, name) for name in kept},
    )
