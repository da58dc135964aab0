"""Hooks that act on a distillation from outside the training step."""

from ibkd_mm.distill.hooks.schedule import DistillScheduleHook
from ibkd_mm.distill.hooks.teacher_check import TeacherCheckHook

__all__ = ["DistillScheduleHook", "TeacherCheckHook"]
