"""The student: backbone, neck and head as one detector."""

from mmdet.models.detectors import SingleStageDetector

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.export_graph import MAX_INSTANCES, DeployedStudent
from ibkd_mm.yolov10.fuse import fuse


@MODELS.register_module()
class YOLOv10(SingleStageDetector):
    """YOLOv10 (https://arxiv.org/abs/2405.14458) with masks: predicts each instance once, without NMS.

    It trains like any other detector of mmdet.
    """

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.bbox_head.num_classes

    def fuse(self) -> "YOLOv10":
        """Fuse the network in place for deployment: smaller, faster, same predictions, not trainable."""
        self.bbox_head.drop_training_branch()
        fuse(self)
        return self

    def export_graph(self, *, max_instances: int | None = None, half: bool = False) -> DeployedStudent:
        """Copy the student into a module from pixels to instances, post-processing included.

        Args:
            max_instances: number of instances per image; 100, or the config's `max_per_img` if that is lower.
            half: whether the network runs in half precision.
        """
        limit = self.bbox_head.predictor.max_per_img
        count = min(MAX_INSTANCES, limit) if max_instances is None else max_instances
        if count > limit:
            raise UserError(
                f"max_instances is {count}, but the config has model.test_cfg.max_per_img={limit}. "
                "Choose at most that, or raise it."
            )
        return DeployedStudent(self, max_instances=count, half=half)
