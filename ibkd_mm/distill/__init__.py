"""Distillation: a frozen teacher, what brings its records and a student's together, what compares them."""

from ibkd_mm.distill.algorithm import FrozenTeacherDistill
from ibkd_mm.distill.cache import LoadTeacherInstances, NoAnnotations, SplitTeacherInstances
from ibkd_mm.distill.connectors import (
    BifocalAttention,
    CachedInstances,
    ContextualFeatureBridge,
    QueryInstances,
)
from ibkd_mm.distill.context import ContextWeights
from ibkd_mm.distill.distiller import CheckedDistiller
from ibkd_mm.distill.extra_targets import ExtraTargets
from ibkd_mm.distill.hooks import CacheCheckHook, DistillScheduleHook, TeacherCheckHook
from ibkd_mm.distill.instances import TeacherInstances
from ibkd_mm.distill.losses import (
    AttentionLoss,
    AuxiliaryHeadLoss,
    InstanceDistillLoss,
    LevelLoss,
    SyncedPKDLoss,
)
from ibkd_mm.distill.samples_recorder import DataSamplesRecorder

__all__ = [
    "FrozenTeacherDistill",
    "AttentionLoss",
    "AuxiliaryHeadLoss",
    "BifocalAttention",
    "CacheCheckHook",
    "CachedInstances",
    "CheckedDistiller",
    "ContextualFeatureBridge",
    "ContextWeights",
    "DataSamplesRecorder",
    "DistillScheduleHook",
    "ExtraTargets",
    "TeacherCheckHook",
    "QueryInstances",
    "TeacherInstances",
    "InstanceDistillLoss",
    "LevelLoss",
    "LoadTeacherInstances",
    "NoAnnotations",
    "SplitTeacherInstances",
    "SyncedPKDLoss",
]
