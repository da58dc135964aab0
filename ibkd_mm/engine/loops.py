"""mmengine's two training loops, resumable at any step: each step seeds itself, each batch has its place."""

from bisect import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ibkd_mm.engine.resume.seeded_samples import PositionedBatches, SeededDataset, seed_by_position
from ibkd_mm.engine.resume.seeding import seed_everything
from ibkd_mm.registry import LOOPS

Batch = Sequence[dict[str, Any]]


def _placed(runner: Runner, loader: DataLoader[Any] | dict[str, Any]) -> DataLoader[Any]:
    differ = runner._randomness_cfg.get("diff_rank_seed", False)
    built = runner.build_dataloader(loader, seed=runner.seed, diff_rank_seed=differ)
    return seed_by_position(built, runner.seed, get_rank(), Path(runner.log_dir) / faults_name(get_rank()))


def faults_name(rank: int | str) -> str:
    """Name the file that lists the samples that a process could not read."""
    return f"unreadable_samples_{rank}.jsonl"


class ResumableLoop:
    """What the two loops share: where their loader stands."""

    dataloader: DataLoader[Any]

    @property
    def place(self) -> PositionedBatches:
        """The batches as they are drawn."""
        batches = self.dataloader.batch_sampler
        assert isinstance(batches, PositionedBatches)
        return batches

    @property
    def drawn(self) -> SeededDataset:
        """The data set as it is drawn from."""
        dataset = self.dataloader.dataset
        assert isinstance(dataset, SeededDataset)
        return dataset

    def reseed(self, seed: int) -> None:
        """Draw as the run with this seed; a sampler whose seed the config sets keeps it."""
        sampler, old = self.place.sampler, self.drawn.seed
        if getattr(sampler, "seed", None) == old:
            sampler.seed = seed
        self.drawn.seed = seed


@LOOPS.register_module()
class ResumableEpochLoop(ResumableLoop, EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that can begin in the middle of an epoch."""

    def __init__(self, runner: Runner, dataloader: Any, **kwargs: Any) -> None:
        super().__init__(runner, _placed(runner, dataloader), **kwargs)

    def run_epoch(self) -> None:
        """Run what is left of one epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for index, batch in enumerate(self.dataloader, start=self.place.begin(self._epoch)):
            self.place.taken = index + 1
            self.run_iter(index, batch)
        self.place.require_batch()
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Batch) -> None:
        """Train on one batch, with randomness of its own."""
        seed_everything(self.drawn.seed, get_rank(), self._iter)
        super().run_iter(idx, data_batch)


class EndlessBatches:
    """The batches of a loader, turn after turn; mmengine's own draws the skipped ones when it resumes."""

    def __init__(self, loader: DataLoader[Any], place: PositionedBatches) -> None:
        self.loader, self.place = loader, place
        self._iterator: Any = None

    def __iter__(self) -> "EndlessBatches":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = iter(self.loader)
        batch = next(self._iterator, None)
        if batch is None:
            self.place.require_batch()
            self.place.begin(self.place.turn + 1)
            self._iterator = iter(self.loader)
            batch = next(self._iterator)
        self.place.taken += 1
        return batch

    def skip_iter(self, count: int) -> None:
        """Do nothing: a resumed loader stands at its place already."""


@LOOPS.register_module()
class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """`IterBasedTrainLoop` that resumes without loading what it skips."""

    def __init__(self, runner: Runner, dataloader: Any, **kwargs: Any) -> None:
        super().__init__(runner, _placed(runner, dataloader), **kwargs)
        self.dataloader_iterator = EndlessBatches(self.dataloader, self.place)

    def validates_after(self, iteration: int) -> bool:
        """Tell whether a validation follows so many iterations."""
        interval = self.dynamic_intervals[bisect(self.dynamic_milestones, iteration + 1) - 1]
        due = iteration % interval == 0 or iteration == self.max_iters
        return self.runner.val_loop is not None and iteration >= self.val_begin and due

    def run_iter(self, data_batch: Batch) -> None:
        """Train on one batch, with randomness of its own."""
        seed_everything(self.drawn.seed, get_rank(), self._iter)
        super().run_iter(data_batch)
