"""The hook that saves the position in the training data and restores it."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.loops import ResumableIterLoop, ResumableLoop
from ibkd_mm.registry import HOOKS
from ibkd_mm.stack.internals import is_resuming, train_loop_of

_KEY = "data_position"


@HOOKS.register_module()
class DataPositionHook(Hook):
    """Save the position in the training data in checkpoints, and restore it on resuming.

    Acts in before_save_checkpoint and, after CheckpointGuard, in after_load_checkpoint.
    """

    priority = "HIGH"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the position and the sizes that it is counted in."""
        loop = runner.train_loop
        if isinstance(loop, ResumableLoop):
            batches = loop.batches
            position = {"epoch": batches.epoch, "consumed_batches": batches.consumed}
            checkpoint[_KEY] = {**position, **_sizes(loop)}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the position; warn where it cannot be exact."""
        loop = train_loop_of(runner)
        if not is_resuming(runner) or not isinstance(loop, ResumableLoop):
            return
        saved, sizes = _saved_position(checkpoint), _sizes(loop)
        if saved is None:
            runner.logger.warning(
                "The checkpoint was not written by ibkd_mm and has no data position: the training continues, "
                "but not with the samples that it would have had without the stop."
            )
            loop.batches.epoch, loop.batches.consumed = _estimate(loop, checkpoint["meta"])
            return
        changes = [
            f"{name} from {saved[name]} to {size}" for name, size in sizes.items() if saved[name] != size
        ]
        if changes:
            runner.logger.warning(
                f"Resuming cannot be exact: {', '.join(changes)}. The training continues at the same sample "
                "with other batches, and schedules keep counting iterations."
            )
        before, after = (size["batch_size"] * size["processes"] for size in (saved, sizes))
        loop.batches.epoch = saved["epoch"]
        loop.batches.consumed = saved["consumed_batches"] * before // after


def _saved_position(checkpoint: dict[str, Any]) -> dict[str, int] | None:
    former: dict[str, int] | None = checkpoint.get("place")  # the key and names before version 0.1.0
    if former is not None and _KEY not in checkpoint:
        return {**former, "epoch": former["turn"], "consumed_batches": former["taken"]}
    return checkpoint.get(_KEY)


def _sizes(loop: ResumableLoop) -> dict[str, int]:
    return {
        "batch_size": loop.batches.batch_size,
        "processes": get_world_size(),
        "samples": len(loop.dataset),
    }


def _estimate(loop: ResumableLoop, meta: dict[str, Any]) -> tuple[int, int]:
    """Derive epoch and consumed batches from the iterations that mmengine counts."""
    if not isinstance(loop, ResumableIterLoop):
        return meta["epoch"], 0
    return (0, meta["iter"]) if loop.batches.is_infinite else divmod(meta["iter"], len(loop.batches))
