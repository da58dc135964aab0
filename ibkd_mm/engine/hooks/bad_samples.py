"""The hook that reports samples that cannot be read and stops a training with too many of them."""

import json
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.engine.loops import ERROR_LOG, ResumableLoop
from ibkd_mm.engine.seeded_samples import count_distinct_samples
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS

DEFAULT_SHARE = 0.01


@HOOKS.register_module()
class BadSampleGuard(Hook):
    """Before each step, report samples that the loader could not read and replaced; stop if too many.

    Args:
        share: largest accepted share of unreadable samples in the dataset.
    """

    priority = "VERY_HIGH"

    def __init__(self, share: float = DEFAULT_SHARE) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"Expected a share between 0 and 1 in BadSampleGuard, found {share}.")
        self.share = share
        self._offsets: dict[Path, int] = {}  # bytes that were read of each process's file
        self._errors: dict[tuple[str, int], str] = {}  # by annotation file and index

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Read what the loaders of all processes logged since the last step."""
        loop = runner.train_loop
        if not isinstance(loop, ResumableLoop):
            return
        known, log = len(self._errors), loop.dataset.error_log
        for rank in range(get_world_size()):  # every process draws from all of the data in the end
            self._read_log(runner, log.with_name(ERROR_LOG.format(rank)))
        if len(self._errors) == known:
            return
        samples = count_distinct_samples(loop.dataset.dataset)
        if len(self._errors) > self.share * samples:
            first, error = next(iter(self._errors.items()))
            raise UserError(
                f"{len(self._errors)} of {samples} samples cannot be read, more than the {self.share:.2%} "
                f"that default_hooks.bad_samples.share accepts. The first: sample {first[1]}: {error}. "
                f"{log.with_name(ERROR_LOG.format('*'))} lists all; `ibkd check CONFIG` finds the rest."
            )

    def _read_log(self, runner: Runner, log: Path) -> None:
        offset = self._offsets.get(log, 0)
        if not log.is_file() or log.stat().st_size == offset:
            return
        with log.open("rb") as file:
            file.seek(offset)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]  # a worker may be writing the last line
        self._offsets[log] = offset + len(lines)
        for entry in map(json.loads, lines.splitlines()):
            sample, source, error = entry["sample"], entry["source"], entry["error"]
            if (source, sample) not in self._errors:
                self._errors[source, sample] = error
                name = f"{sample} of {source}" if source else sample
                runner.logger.warning(f"Sample {name} is unreadable, replaced: {error}")
        runner.message_hub.update_info("unreadable_samples", len(self._errors))
