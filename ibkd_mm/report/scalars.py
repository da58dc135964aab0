"""Curves from what mmengine logs, one JSON line a record; folders of a resumed training are joined."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Curve = dict[int, float]
"""Values by step, in order."""
Curves = dict[str, Curve]

_NOT_VALUES = ("step", "iter", "epoch")
_NO_SUCH_INSTANCES = -1.0
"""What COCO's metrics say of a size that no true instance has."""


@dataclass
class Log:
    """What a training logged: `training` by iterations, `validation` by iterations or epochs."""

    training: Curves = field(default_factory=dict)
    validation: Curves = field(default_factory=dict)

    @property
    def reached(self) -> int:
        """Where the last validation was; 0 where there was none."""
        return max((max(curve) for curve in self.validation.values()), default=0)


def read_log(files: Sequence[Path], *, by_epoch: bool, interval: int, end: int) -> Log:
    """Join the files of one training, the oldest first.

    A later file goes on where its training resumed: what the earlier ones say from there on did not count.

    Args:
        files: `scalars.json` of mmengine's visualiser.
        by_epoch: whether validations are counted in epochs.
        interval: between validations.
        end: of the training, in the same unit.
    """
    log = Log()
    for file in files:
        records = _records(file)
        first = next((record for record in records if _trains(record)), None)
        if first is not None:
            _cut(log.training, first["step"])
            _cut(log.validation, first["epoch"] if by_epoch else first["step"])
        for record in records:
            if _trains(record):
                _add(log.training, record, record["step"])
            else:
                step = record["step"] or _inferred(log, interval, end)
                _add(log.validation, record, step)
    return log


def _records(file: Path) -> list[dict[str, Any]]:
    """Read the whole lines: the last may be in the making."""
    records = []
    for line in file.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [record for record in records if "step" in record]


def _trains(record: dict[str, Any]) -> bool:
    return "lr" in record


def _cut(curves: Curves, start: int) -> None:
    for curve in curves.values():
        for step in [step for step in curve if step >= start]:
            del curve[step]
    for name in [name for name, curve in curves.items() if not curve]:
        del curves[name]


def _inferred(log: Log, interval: int, end: int) -> int:
    """Tell where a validation was: mmengine counts it in epochs, of which a loop of iterations has none."""
    trained = max((max(curve) for curve in log.training.values()), default=0)
    return min(max(-(-trained // interval) * interval, log.reached + interval), end)


def _add(curves: Curves, record: dict[str, Any], step: int) -> None:
    for name, value in record.items():
        known = isinstance(value, int | float) and math.isfinite(value) and value != _NO_SUCH_INSTANCES
        if known and name not in _NOT_VALUES:
            curves.setdefault(name, {})[step] = float(value)
