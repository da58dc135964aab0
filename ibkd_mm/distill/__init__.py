"""The distillation framework: a frozen teacher, recorders, a distiller, schedules and feature losses."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.distill.algorithm import FrozenTeacherDistill  # noqa: E402
from ibkd_mm.distill.data_samples_recorder import DataSamplesRecorder  # noqa: E402
from ibkd_mm.distill.distiller import CheckedDistiller  # noqa: E402
from ibkd_mm.distill.hooks import DistillScheduleHook, TeacherCheckHook  # noqa: E402
from ibkd_mm.distill.losses import BridgedFeatureLoss, SyncedPKDLoss  # noqa: E402

__all__ = [
    "BridgedFeatureLoss",
    "CheckedDistiller",
    "DataSamplesRecorder",
    "DistillScheduleHook",
    "FrozenTeacherDistill",
    "SyncedPKDLoss",
    "TeacherCheckHook",
]
