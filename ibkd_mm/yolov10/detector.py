"""The student: backbone, neck and head as one detector."""

from mmdet.models.detectors import SingleStageDetector

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.fuse import fuse


@MODELS.register_module()
class YOLOv10(SingleStageDetector):
    """YOLOv10 (https://arxiv.org/abs/2405.14458) with masks: finds each instance once, without suppression.

    Trained, it is a detector of mmdet like any other.
    """

    def fuse(self) -> "YOLOv10":
        """Make it what is deployed, in place: smaller, faster, of the same results, not to be trained."""
        self.bbox_head.drop_training_branch()
        fuse(self)
        return self
