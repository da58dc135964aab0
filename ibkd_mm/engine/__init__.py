"""What any method's training needs. Importing it makes every checkpoint go through the one safe loader."""

from ibkd_mm.engine.amp import CpuAmpOptimWrapper
from ibkd_mm.engine.bad_samples import BadSampleGuard
from ibkd_mm.engine.checkpoint import load_weights
from ibkd_mm.engine.close_mosaic import CloseMosaicHook
from ibkd_mm.engine.ema import StudentEMAHook
from ibkd_mm.engine.fit import CheckpointGuard, check_fit
from ibkd_mm.engine.loops import EpochLoop, IterLoop
from ibkd_mm.engine.non_finite import NonFiniteGuard
from ibkd_mm.engine.param_groups import FewGroupsConstructor
from ibkd_mm.engine.place import PlaceHook
from ibkd_mm.engine.preemption import Preempted, PreemptionHook
from ibkd_mm.engine.runner import TrustedRunner
from ibkd_mm.engine.saving import WholeCheckpointHook

__all__ = [
    "BadSampleGuard",
    "CheckpointGuard",
    "CloseMosaicHook",
    "CpuAmpOptimWrapper",
    "EpochLoop",
    "FewGroupsConstructor",
    "IterLoop",
    "NonFiniteGuard",
    "PlaceHook",
    "Preempted",
    "PreemptionHook",
    "StudentEMAHook",
    "TrustedRunner",
    "WholeCheckpointHook",
    "check_fit",
    "load_weights",
]
