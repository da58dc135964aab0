"""IBKD: a Mask2Former teacher distilled into a YOLOv10 with masks."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.methods.ibkd.bifocal import AttentionLoss, AuxiliaryHeadLoss, BifocalAttention  # noqa: E402, F401
from ibkd_mm.methods.ibkd.bridge import ContextualFeatureBridge  # noqa: E402, F401
from ibkd_mm.methods.ibkd.context_weights import ContextWeights  # noqa: E402, F401
from ibkd_mm.methods.ibkd.extra_targets import ExtraTargets  # noqa: E402, F401
from ibkd_mm.methods.ibkd.instance_loss import InstanceDistillLoss  # noqa: E402, F401
from ibkd_mm.methods.ibkd.teacher_instances import QueryInstances, TeacherInstances  # noqa: E402, F401
from ibkd_mm.methods.ibkd.teacher_predictions import InstancePredictor  # noqa: E402, F401
