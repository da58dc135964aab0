"""The student: YOLOv10 with masks, without NMS. It does not depend on distillation."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.yolov10.assigner import TaskAlignedAssigner  # noqa: E402
from ibkd_mm.yolov10.backbone import YOLOv10Backbone  # noqa: E402
from ibkd_mm.yolov10.box_loss import CompleteIoULoss  # noqa: E402
from ibkd_mm.yolov10.detector import YOLOv10  # noqa: E402
from ibkd_mm.yolov10.head import YOLOv10SegHead  # noqa: E402
from ibkd_mm.yolov10.mask_loss import CroppedMaskLoss  # noqa: E402
from ibkd_mm.yolov10.neck import YOLOv10PAFPN  # noqa: E402
from ibkd_mm.yolov10.score_loss import AssignedScoreLoss  # noqa: E402
from ibkd_mm.yolov10.structures import Assignment, BranchStep, GroundTruth, HeadOutputs  # noqa: E402

__all__ = [
    "YOLOv10",
    "YOLOv10Backbone",
    "YOLOv10PAFPN",
    "YOLOv10SegHead",
    "TaskAlignedAssigner",
    "AssignedScoreLoss",
    "CompleteIoULoss",
    "CroppedMaskLoss",
    "Assignment",
    "BranchStep",
    "GroundTruth",
    "HeadOutputs",
]
