"""What any method's training needs. Importing it makes every checkpoint go through the one safe loader."""

from ibkd_mm.engine.amp import CpuAmpOptimWrapper
from ibkd_mm.engine.checkpoint import load_weights
from ibkd_mm.engine.fit import CheckpointGuard, check_fit

__all__ = ["CheckpointGuard", "CpuAmpOptimWrapper", "check_fit", "load_weights"]
