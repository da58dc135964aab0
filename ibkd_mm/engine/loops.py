"""mmengine's two training loops, resumable after any step, and the hook that saves their position."""

from bisect import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ibkd_mm.engine.seeded_samples import PositionedBatches, SeededDataset, seed_by_position
from ibkd_mm.registry import HOOKS, LOOPS
from ibkd_mm.stack.internals import has_rank_seeds, is_resuming, train_loop_of
from ibkd_mm.utils.rng import seed_everything

ERROR_LOG = "unreadable_samples_{}.jsonl"  # of the process with this rank
_POSITION = "data_position"
_SIZES = ("batch_size", "processes", "samples")


class ResumableLoop(BaseLoop):
    """What both loops share: the position in the training data, and the seeds of steps."""

    def __init__(self, runner: Runner, dataloader: Any, **kwargs: Any) -> None:
        built = runner.build_dataloader(dataloader, seed=runner.seed, diff_rank_seed=has_rank_seeds(runner))
        error_log = Path(runner.log_dir) / ERROR_LOG.format(get_rank())
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


class _EndlessBatches:
    """The batches of a loader, epoch after epoch; mmengine's iterator loads the skipped ones on resuming."""

    def __init__(self, loader: DataLoader[Any], batches: PositionedBatches) -> None:
        self.loader, self.batches = loader, batches
        self._iterator: Any = None  # the name that `stack.internals.drop_loader_iterator` sets

    def __iter__(self) -> "_EndlessBatches":
        return self

    def __next__(self) -> Sequence[dict[str, Any]]:
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
        self.dataloader_iterator = _EndlessBatches(self.dataloader, self.batches)

    def validates_after(self, iteration: int) -> bool:
        """Return whether a validation follows this iteration, counted from 1."""
        interval = self.dynamic_intervals[bisect(self.dynamic_milestones, iteration + 1) - 1]
        due = iteration % interval == 0 or iteration == self.max_iters
        return self.runner.val_loop is not None and iteration >= self.val_begin and due


@HOOKS.register_module()
class DataPositionHook(Hook):
    """Save the position in the training data in checkpoints, and restore it on resuming.

    Acts in before_save_checkpoint and, after CheckpointGuard, in after_load_checkpoint.
    """

    priority = "HIGH"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the position, and the sizes that it is counted in."""
        if isinstance(runner.train_loop, ResumableLoop):
            checkpoint[_POSITION] = _position(runner.train_loop)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the position; warn where it cannot be exact."""
        loop = train_loop_of(runner)
        if not is_resuming(runner) or not isinstance(loop, ResumableLoop):
            return
        batches, current, saved = loop.batches, _position(loop), _saved_position(checkpoint)
        if saved is None:
            runner.logger.warning(
                "The checkpoint was not written by ibkd_mm and has no data position: the training continues, "
                "but not with the samples that it would have had without the stop."
            )
            batches.epoch, batches.consumed = _estimate(loop, checkpoint["meta"])
            return
        if changes := [f"{n} from {saved[n]} to {current[n]}" for n in _SIZES if saved[n] != current[n]]:
            runner.logger.warning(
                f"Resuming cannot be exact: {', '.join(changes)}. The training continues at the same sample "
                "with other batches, and schedules keep counting iterations."
            )
        before, after = (position["batch_size"] * position["processes"] for position in (saved, current))
        batches.epoch, batches.consumed = saved["epoch"], saved["consumed_batches"] * before // after


def _position(loop: ResumableLoop) -> dict[str, int]:
    sizes = (loop.batches.batch_size, get_world_size(), len(loop.dataset))
    position = {"epoch": loop.batches.epoch, "consumed_batches": loop.batches.consumed}
    return {**position, **dict(zip(_SIZES, sizes, strict=True))}


def _saved_position(checkpoint: dict[str, Any]) -> dict[str, int] | None:
    former: dict[str, int] | None = checkpoint.get("place")  # checkpoints before version 0.1.0
    if former is not None and _POSITION not in checkpoint:
        return {**former, "epoch": former["turn"], "consumed_batches": former["taken"]}
    return checkpoint.get(_POSITION)


def _estimate(loop: ResumableLoop, meta: dict[str, Any]) -> tuple[int, int]:
    """Derive epoch and consumed batches from the iterations that mmengine counts."""
    if not isinstance(loop, ResumableIterLoop):
        return meta["epoch"], 0
    return (0, meta["iter"]) if loop.batches.is_infinite else divmod(meta["iter"], len(loop.batches))
