"""Curves from mmengine's `scalars.json`; the files of a resumed training are joined."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Curve = dict[int, float]  # values by step, in order
Curves = dict[str, Curve]

_COUNTERS = ("step", "iter", "epoch")
_NO_INSTANCES = -1.0  # COCO's value for a size without ground truth


@dataclass
class Log:
    """Logged curves: `training` by iteration, `validation` by iteration or epoch."""

    training: Curves = field(default_factory=dict)
    validation: Curves = field(default_factory=dict)

    @property
    def reached(self) -> int:
        """Step of the last validation; 0 if there was none."""
        return _last_step(self.validation)


def read_log(files: Sequence[Path], *, by_epoch: bool, interval: int, end: int) -> Log:
    """Join the files of one training, the oldest first.

    A later file starts where the training was resumed: it replaces all earlier records from there on. The
    validation `interval` and the `end` of the training are in epochs if `by_epoch`, else in iterations.
    """
    log = Log()
    for file in files:
        records = _read_records(file)
        first = next((record for record in records if "lr" in record), None)
        if first is not None:
            log.training = _before(log.training, first["step"])
            log.validation = _before(log.validation, first["epoch" if by_epoch else "step"])
        for record in records:
            if "lr" in record:
                _add(log.training, record, record["step"])
            else:
                _add(log.validation, record, record["step"] or _infer_step(log, interval, end))
    return log


def _read_records(file: Path) -> list[dict[str, Any]]:
    records = []
    for line in file.read_text().splitlines():
        with suppress(json.JSONDecodeError):  # the last line may still be being written
            records.append(json.loads(line))
    return [record for record in records if "step" in record]


def _before(curves: Curves, end: int) -> Curves:
    kept = {name: {step: curve[step] for step in curve if step < end} for name, curve in curves.items()}
    return {name: curve for name, curve in kept.items() if curve}


def _infer_step(log: Log, interval: int, end: int) -> int:
    """Infer the step of a validation: in iteration-based loops mmengine logs the epoch, which is 0."""
    trained = _last_step(log.training)
    return min(max(-(-trained // interval) * interval, log.reached + interval), end)


def _last_step(curves: Curves) -> int:
    return max((max(curve) for curve in curves.values()), default=0)


def _add(curves: Curves, record: dict[str, Any], step: int) -> None:
    for name, value in record.items():
        valid = isinstance(value, int | float) and math.isfinite(value) and value != _NO_INSTANCES
        if valid and name not in _COUNTERS:
            curves.setdefault(name, {})[step] = float(value)
