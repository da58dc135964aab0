"""mmengine's two training loops, resumable after any step: every step and every sample is seeded."""

from bisect import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ibkd_mm.engine.resume.seeded_samples import PositionedBatches, SeededDataset, seed_by_position
from ibkd_mm.registry import LOOPS
from ibkd_mm.stack.internals import has_rank_seeds
from ibkd_mm.utils.rng import seed_everything

Batch = Sequence[dict[str, Any]]


def error_log_name(rank: int | str) -> str:
    """Return the name of the file that lists the samples that a process could not read."""
    return f"unreadable_samples_{rank}.jsonl"


class ResumableLoop(BaseLoop):
    """What both loops share: the position in the training data, and the seeds of steps."""

    def __init__(self, runner: Runner, dataloader: Any, **kwargs: Any) -> None:
        built = runner.build_dataloader(dataloader, seed=runner.seed, diff_rank_seed=has_rank_seeds(runner))
        error_log = Path(runner.log_dir) / error_log_name(get_rank())
        loader: Any = seed_by_position(built, runner.seed, get_rank(), error_log)
        self.batches: PositionedBatches = loader.batch_sampler
        self.dataset: SeededDataset = loader.dataset
        super().__init__(runner, loader, **kwargs)

    def reseed(self, seed: int) -> None:
        """Use the seed of the run that is resumed; a sampler seed that the config sets stays."""
        sampler = self.batches.sampler
        if getattr(sampler, "seed", None) == self.dataset.seed:
            sampler.seed = seed
        self.dataset.seed = seed

    def run_iter(self, *args: Any) -> None:
        """Seed the step and train on a batch."""
        seed_everything(self.dataset.seed, get_rank(), self._iter)
        super().run_iter(*args)


@LOOPS.register_module()
class ResumableEpochLoop(ResumableLoop, EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that can resume in the middle of an epoch."""

    def run_epoch(self) -> None:
        """Run the rest of an epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for index, batch in enumerate(self.dataloader, start=self.batches.start_epoch(self._epoch)):
            self.batches.consumed = index + 1
            self.run_iter(index, batch)
        self.batches.check_not_empty()
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


class EndlessBatches:
    """The batches of a loader, epoch after epoch; mmengine's iterator loads the skipped ones on resuming."""

    def __init__(self, loader: DataLoader[Any], batches: PositionedBatches) -> None:
        self.loader, self.batches = loader, batches
        self._iterator: Any = None  # the name that `stack.internals.drop_loader_iterator` sets

    def __iter__(self) -> "EndlessBatches":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = iter(self.loader)
        batch = next(self._iterator, None)
        if batch is None:
            self.batches.check_not_empty()
            self.batches.start_epoch(self.batches.epoch + 1)
            self._iterator = iter(self.loader)
            batch = next(self._iterator)
        self.batches.consumed += 1
        return batch

    def skip_iter(self, count: int) -> None:
        """Do nothing: the position of a resumed loader is restored already."""


@LOOPS.register_module()
class ResumableIterLoop(ResumableLoop, IterBasedTrainLoop):
    """`IterBasedTrainLoop` that resumes without loading the batches that it skips."""

    def __init__(self, runner: Runner, dataloader: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.dataloader_iterator = EndlessBatches(self.dataloader, self.batches)

    def validates_after(self, iteration: int) -> bool:
        """Return whether a validation follows this iteration, counted from 1."""
        interval = self.dynamic_intervals[bisect(self.dynamic_milestones, iteration + 1) - 1]
        due = iteration % interval == 0 or iteration == self.max_iters
        return self.runner.val_loop is not None and iteration >= self.val_begin and due
