"""The hook that saves the position in the training data and restores it."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.loops import ResumableIterLoop, ResumableLoop
from ibkd_mm.registry import HOOKS
from ibkd_mm.stack.internals import is_resuming, train_loop_of

_KEY = "data_position"
_SIZES = ("batch_size", "processes", "samples")


@HOOKS.register_module()
class DataPositionHook(Hook):
    """Save the position in the training data in checkpoints, and restore it on resuming.

    Acts in before_save_checkpoint and, after CheckpointGuard, in after_load_checkpoint.
    """

    priority = "HIGH"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the position, and the sizes that it is counted in."""
        if isinstance(runner.train_loop, ResumableLoop):
            checkpoint[_KEY] = _position(runner.train_loop)

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
        changes = [f"{n} from {saved[n]} to {current[n]}" for n in _SIZES if saved[n] != current[n]]
        if changes:
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
    if former is not None and _KEY not in checkpoint:
        return {**former, "epoch": former["turn"], "consumed_batches": former["taken"]}
    return checkpoint.get(_KEY)


def _estimate(loop: ResumableLoop, meta: dict[str, Any]) -> tuple[int, int]:
    """Derive epoch and consumed batches from the iterations that mmengine counts."""
    if not isinstance(loop, ResumableIterLoop):
        return meta["epoch"], 0
    return (0, meta["iter"]) if loop.batches.is_infinite else divmod(meta["iter"], len(loop.batches))
