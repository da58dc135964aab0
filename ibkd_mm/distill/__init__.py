"""The distillation framework: a frozen teacher, recorders, a distiller, schedules and feature losses."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.distill.algorithm import FrozenTeacherDistill  # noqa: E402, F401
from ibkd_mm.distill.distiller import CheckedDistiller  # noqa: E402, F401
from ibkd_mm.distill.hooks.schedule import DistillScheduleHook  # noqa: E402, F401
from ibkd_mm.distill.hooks.teacher_check import TeacherCheckHook  # noqa: E402, F401
from ibkd_mm.distill.losses import BridgedFeatureLoss, SyncedPKDLoss  # noqa: E402, F401
