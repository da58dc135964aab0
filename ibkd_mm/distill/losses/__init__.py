"""Feature losses. mmrazor's losses are used as they are: `mmrazor.PKDLoss` and others."""

from ibkd_mm.distill.losses.level import LevelLoss
from ibkd_mm.distill.losses.pkd import SyncedPKDLoss

__all__ = ["LevelLoss", "SyncedPKDLoss"]
