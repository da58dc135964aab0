"""Feature losses. mmrazor's losses are used as they are: `mmrazor.PKDLoss` and others."""

from ibkd_mm.distill.losses.bridged_feature_loss import BridgedFeatureLoss
from ibkd_mm.distill.losses.standardise import SyncedPKDLoss

__all__ = ["BridgedFeatureLoss", "SyncedPKDLoss"]
