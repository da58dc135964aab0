"""Where the stream of samples stands, kept in checkpoints."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.loops import ResumableIterLoop, ResumableLoop
from ibkd_mm.registry import HOOKS


@HOOKS.register_module()
class DataPositionHook(Hook):
    """Keep in the checkpoint where the stream of samples stands.

    Acts before_save_checkpoint and, behind the check that a checkpoint fits, after_load_checkpoint.
    """

    priority = "HIGH"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the place, and what it is counted in."""
        if isinstance(runner.train_loop, ResumableLoop):
            place = runner.train_loop.place
            checkpoint["place"] = {"turn": place.turn, "taken": place.taken, **_counted_in(runner.train_loop)}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go to the place; say so where it cannot be the exact one."""
        loop = runner._train_loop
        if not runner._resume or not isinstance(loop, ResumableLoop):
            return
        known, now = checkpoint.get("place"), _counted_in(loop)
        if known is None:
            runner.logger.warning(
                "The checkpoint was not written by ibkd_mm and does not tell which samples were drawn: the "
                "training goes on, but not as it would have without the stop."
            )
            loop.place.turn, loop.place.taken = _guess(loop, checkpoint["meta"])
            return
        changed = [f"{name} from {known[name]} to {now[name]}" for name in now if known[name] != now[name]]
        if changed:
            runner.logger.warning(
                f"Resuming cannot be exact: {', '.join(changed)}. The training goes on at the same sample, "
                "with other batches, and schedules keep counting iterations."
            )
        before, after = (size["batch_size"] * size["processes"] for size in (known, now))
        loop.place.turn, loop.place.taken = known["turn"], known["taken"] * before // after


def _counted_in(loop: ResumableLoop) -> dict[str, int]:
    return {
        "batch_size": loop.place.batch_size,
        "processes": get_world_size(),
        "samples": len(loop.drawn),
    }


def _guess(loop: ResumableLoop, meta: dict[str, Any]) -> tuple[int, int]:
    if not isinstance(loop, ResumableIterLoop):
        return meta["epoch"], 0
    return (0, meta["iter"]) if loop.place.endless else divmod(meta["iter"], len(loop.place))
