"""The student: YOLOv10 with masks, without NMS. It does not depend on distillation."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.yolov10 import backbone, detector, head, mask_loss, neck, score_loss  # noqa: E402, F401
from ibkd_mm.yolov10.structures import Assignment, BranchStep, GroundTruth, HeadOutputs  # noqa: E402

__all__ = ["Assignment", "BranchStep", "GroundTruth", "HeadOutputs"]
