"""The student: YOLOv10 with masks, without suppression. Knows nothing of teachers."""

from ibkd_mm.yolov10.assigner import TaskAlignedAssigner
from ibkd_mm.yolov10.backbone import YOLOv10Backbone
from ibkd_mm.yolov10.box_loss import CompleteIoULoss
from ibkd_mm.yolov10.detector import YOLOv10
from ibkd_mm.yolov10.head import YOLOv10SegHead
from ibkd_mm.yolov10.mask_loss import CroppedMaskLoss
from ibkd_mm.yolov10.neck import YOLOv10PAFPN
from ibkd_mm.yolov10.score_loss import AssignedScoreLoss
from ibkd_mm.yolov10.structures import Assignment, BranchStep, GroundTruth, HeadOutputs

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
