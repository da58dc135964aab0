"""IBKD: a Mask2Former teacher distilled into a YOLOv10 with masks."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.methods.ibkd.attention_loss import AttentionLoss  # noqa: E402
from ibkd_mm.methods.ibkd.auxiliary_head_loss import AuxiliaryHeadLoss  # noqa: E402
from ibkd_mm.methods.ibkd.bifocal import BifocalAttention  # noqa: E402
from ibkd_mm.methods.ibkd.bifocal_feature_loss import BifocalFeatureLoss  # noqa: E402
from ibkd_mm.methods.ibkd.bridge import ContextualFeatureBridge  # noqa: E402
from ibkd_mm.methods.ibkd.context_weights import ContextWeights  # noqa: E402
from ibkd_mm.methods.ibkd.extra_targets import ExtraTargets  # noqa: E402
from ibkd_mm.methods.ibkd.instance_loss import InstanceDistillLoss  # noqa: E402
from ibkd_mm.methods.ibkd.query_instances import QueryInstances  # noqa: E402
from ibkd_mm.methods.ibkd.teacher_instances import TeacherInstances  # noqa: E402
from ibkd_mm.methods.ibkd.teacher_predictions import InstancePredictor  # noqa: E402

__all__ = [
    "AttentionLoss",
    "AuxiliaryHeadLoss",
    "BifocalAttention",
    "BifocalFeatureLoss",
    "ContextWeights",
    "ContextualFeatureBridge",
    "ExtraTargets",
    "InstanceDistillLoss",
    "InstancePredictor",
    "QueryInstances",
    "TeacherInstances",
]
