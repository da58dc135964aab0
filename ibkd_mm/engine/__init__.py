"""Training for any method. Importing it makes mmengine read every checkpoint with the safe loader."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.engine.amp import CpuAmpOptimWrapper  # noqa: E402
from ibkd_mm.engine.checkpoint.load import load_weights  # noqa: E402
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights  # noqa: E402
from ibkd_mm.engine.hooks.bad_samples import BadSampleGuard  # noqa: E402
from ibkd_mm.engine.hooks.checkpoint_guard import CheckpointGuard  # noqa: E402
from ibkd_mm.engine.hooks.close_mosaic import CloseMosaicHook  # noqa: E402
from ibkd_mm.engine.hooks.non_finite import NonFiniteGuard  # noqa: E402
from ibkd_mm.engine.hooks.preemption import Preempted, PreemptionHook  # noqa: E402
from ibkd_mm.engine.hooks.student_ema import StudentEMAHook  # noqa: E402
from ibkd_mm.engine.hooks.whole_checkpoint import WholeCheckpointHook  # noqa: E402
from ibkd_mm.engine.loops import DataPositionHook, ResumableEpochLoop, ResumableIterLoop  # noqa: E402
from ibkd_mm.engine.optim import FewGroupsConstructor  # noqa: E402
from ibkd_mm.engine.runner import ResumableRunner  # noqa: E402

__all__ = ["ResumableRunner", "ResumableEpochLoop", "ResumableIterLoop"]
__all__ += ["BadSampleGuard", "CheckpointGuard", "CloseMosaicHook", "DataPositionHook", "NonFiniteGuard"]
__all__ += ["Preempted", "PreemptionHook", "StudentEMAHook", "WholeCheckpointHook"]
__all__ += ["CpuAmpOptimWrapper", "FewGroupsConstructor", "load_matching_weights", "load_weights"]
