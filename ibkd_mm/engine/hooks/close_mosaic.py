"""The hook that turns mosaic augmentation off for the end of a training."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ibkd_mm.engine.dataset_tree import walk_datasets, walk_transforms
from ibkd_mm.engine.workers import shut_down_workers
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS


@HOOKS.register_module()
class CloseMosaicHook(Hook):
    """Turn off mosaics, and all other transforms with a method `close`, for the last part of a training.

    Restarts the loader's workers, which have copies of the dataset and load batches in advance.

    Args:
        last: number of epochs without them, or of iterations in an iteration-based training.
    """

    def __init__(self, last: int = 10) -> None:
        if last < 0:
            raise UserError(f"Expected last of at least 0 in CloseMosaicHook, found {last}.")
        self.last = last
        self._open: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Find the transforms; turn them off now if the training resumes in its last part."""
        transforms = walk_transforms(*walk_datasets(runner.train_loop.dataloader.dataset))
        self._open = [transform for transform in transforms if hasattr(transform, "close")]
        if not self._open:
            raise UserError(
                "CloseMosaicHook finds no transform to turn off in train_dataloader.dataset. Remove the hook "
                "from custom_hooks, or add MosaicAffine, say, in the pipeline of a MultiImageMixDataset."
            )
        if _is_iter_based(runner):
            self._close_at(runner, runner.iter, runner.max_iters)

    def before_train_epoch(self, runner: Runner) -> None:
        """Turn them off between two epochs."""
        if not _is_iter_based(runner):
            self._close_at(runner, runner.epoch, runner.max_epochs)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Turn them off between two iterations."""
        if _is_iter_based(runner):
            self._close_at(runner, runner.iter + 1, runner.max_iters)

    def _close_at(self, runner: Runner, now: int, end: int) -> None:
        if not self._open or not end - self.last <= now < end:
            return
        for transform in self._open:
            transform.close()
        names = ", ".join(sorted({type(transform).__name__ for transform in self._open}))
        self._open = []
        shut_down_workers(runner.train_loop)  # new ones load the next batch
        runner.logger.info(f"{names}: off from here on, for the last {end - now} of {end}.")


def _is_iter_based(runner: Runner) -> bool:
    return isinstance(runner.train_loop, IterBasedTrainLoop)
