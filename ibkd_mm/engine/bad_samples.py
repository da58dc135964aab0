"""Samples that cannot be read: each named once, counted, and more than a set share of them not accepted."""

import json
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.loops import Placed
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS


@HOOKS.register_module()
class BadSampleGuard(Hook):
    """Report the samples that the loader could not read and replaced; stop when they are too many.

    Acts before_train_iter.

    Args:
        share: the share of a data set's samples that may be unreadable.
    """

    priority = "VERY_HIGH"

    def __init__(self, share: float = 0.01) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"Expected a share between 0 and 1 in BadSampleGuard, found {share}.")
        self.share = share
        self._read = 0
        self._errors: dict[str, int] = {}

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """See what the loader has noted since the last step."""
        loop = runner.train_loop
        if isinstance(loop, Placed) and self._news(runner, loop.drawn.faults):
            self._judge(runner, len(loop.drawn), loop.drawn.faults)

    def _news(self, runner: Runner, faults: Path) -> bool:
        if not faults.is_file() or faults.stat().st_size == self._read:
            return False
        with faults.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]  # a worker may be writing
        self._read += len(lines)
        known = len(self._errors)
        for line in lines.splitlines():
            note = json.loads(line)
            if note["error"] not in self._errors:
                self._errors[note["error"]] = note["sample"]
                runner.logger.warning(f"Sample {note['sample']} is unreadable, replaced: {note['error']}")
        runner.message_hub.update_info("unreadable_samples", len(self._errors))
        return len(self._errors) > known

    def _judge(self, runner: Runner, samples: int, faults: Path) -> None:
        allowed = self.share * samples / get_world_size()
        if len(self._errors) > allowed:
            error, sample = next(iter(self._errors.items()))
            raise UserError(
                f"{len(self._errors)} of {samples} samples cannot be read, more than the {self.share:.2%} "
                f"that guards.bad_samples.share accepts. The first: sample {sample}: {error}. "
                f"All are listed in {faults}; `ibkd check CONFIG` finds the rest."
            )
