"""Samples that cannot be read: each named once, counted, and more than a set share of them not accepted."""

import json
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.loops import ResumableLoop, faults_name
from ibkd_mm.engine.resume.seeded_samples import count_distinct_samples
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
        self._read: dict[Path, int] = {}
        self._errors: dict[tuple[str, int], str] = {}

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """See what the loaders of all processes have noted since the last step."""
        loop = runner.train_loop
        if not isinstance(loop, ResumableLoop):
            return
        known, own = len(self._errors), loop.drawn.faults
        for rank in range(get_world_size()):  # in time each process draws from all of the data
            self._take_in(runner, own.with_name(faults_name(rank)))
        if len(self._errors) > known:
            self._judge(count_distinct_samples(loop.drawn.dataset), own)

    def _take_in(self, runner: Runner, faults: Path) -> None:
        read = self._read.get(faults, 0)
        if not faults.is_file() or faults.stat().st_size == read:
            return
        with faults.open("rb") as file:
            file.seek(read)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]  # a worker may be writing
        self._read[faults] = read + len(lines)
        for note in map(json.loads, lines.splitlines()):
            sample, source, error = note["sample"], note["source"], note["error"]
            if (source, sample) not in self._errors:
                self._errors[source, sample] = error
                where = f"{sample} of {source}" if source else sample
                runner.logger.warning(f"Sample {where} is unreadable, replaced: {error}")
        runner.message_hub.update_info("unreadable_samples", len(self._errors))

    def _judge(self, samples: int, faults: Path) -> None:
        if len(self._errors) > self.share * samples:
            (_, sample), error = next(iter(self._errors.items()))
            raise UserError(
                f"{len(self._errors)} of {samples} samples cannot be read, more than the {self.share:.2%} "
                f"that default_hooks.bad_samples.share accepts. The first: sample {sample}: {error}. "
                f"All are listed in {faults.with_name(faults_name('*'))}; `ibkd check CONFIG` finds the rest."
            )
