"""What acts on a distillation from outside the step."""

from ibkd_mm.distill.hooks.cache_check import CacheCheckHook
from ibkd_mm.distill.hooks.schedule import DistillScheduleHook
from ibkd_mm.distill.hooks.teacher_check import TeacherCheckHook

__all__ = ["CacheCheckHook", "DistillScheduleHook", "TeacherCheckHook"]
