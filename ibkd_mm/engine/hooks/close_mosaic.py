"""The end of a training on whole pictures, as the model will see them."""

from typing import Any, Protocol, runtime_checkable

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ibkd_mm.engine.dataset_tree import walk_datasets, walk_transforms
from ibkd_mm.engine.workers import shut_down_workers
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS


@runtime_checkable
class Closable(Protocol):
    """A transform that mixes pictures, and can stop doing so."""

    def close(self) -> None:
        """Leave pictures as they are from now on."""


@HOOKS.register_module()
class CloseMosaicHook(Hook):
    """Turn mosaics, and whatever else has a `close`, off for the last part of a training.

    Acts in before_train, before_train_epoch and after_train_iter. Loaders are started anew, since workers
    have data sets of their own and work ahead.

    Args:
        last: how many epochs are trained without, or iterations where the training counts these.
    """

    def __init__(self, last: int = 10) -> None:
        if last < 0:
            raise UserError(f"Expected last of at least 0 in CloseMosaicHook, found {last}.")
        self.last = last
        self._open: list[Closable] = []

    def before_train(self, runner: Runner) -> None:
        """Find what is to be turned off, and do so where the training goes on behind the switch."""
        transforms = walk_transforms(*walk_datasets(runner.train_loop.dataloader.dataset))
        self._open = [each for each in transforms if isinstance(each, Closable)]
        if not self._open:
            raise UserError(
                "CloseMosaicHook finds no transform to turn off in train_dataloader.dataset, such as "
                "MosaicAffine in the pipeline of a MultiImageMixDataset. Take the hook out of custom_hooks, "
                "or put the transform in."
            )
        if _counts_iterations(runner):
            self._close_from(runner, runner.iter, runner.max_iters)

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch between two epochs."""
        if not _counts_iterations(runner):
            self._close_from(runner, runner.epoch, runner.max_epochs)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Switch between two iterations."""
        if _counts_iterations(runner):
            self._close_from(runner, runner.iter + 1, runner.max_iters)

    def _close_from(self, runner: Runner, now: int, end: int) -> None:
        if not self._open or not end - self.last <= now < end:
            return
        for transform in self._open:
            transform.close()
        names = ", ".join(sorted({type(transform).__name__ for transform in self._open}))
        self._open = []
        shut_down_workers(runner.train_loop)  # the next batch is made by new ones
        runner.logger.info(f"{names}: off from here on, for the last {end - now} of {end}.")


def _counts_iterations(runner: Runner) -> bool:
    return isinstance(runner.train_loop, IterBasedTrainLoop)
