"""What compares student and teacher. mmrazor's losses stand beside these: `mmrazor.PKDLoss` and others."""

from ibkd_mm.distill.losses.attention import AttentionLoss
from ibkd_mm.distill.losses.auxiliary import AuxiliaryHeadLoss
from ibkd_mm.distill.losses.instance import InstanceDistillLoss
from ibkd_mm.distill.losses.level import LevelLoss
from ibkd_mm.distill.losses.pkd import SyncedPKDLoss

__all__ = ["AttentionLoss", "AuxiliaryHeadLoss", "InstanceDistillLoss", "LevelLoss", "SyncedPKDLoss"]
