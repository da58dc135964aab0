"""Average precision of an exported file, measured as `ibkd test` measures it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from mmengine.structures import InstanceData

from ibkd_mm.deploy.check_images import Pictures
from ibkd_mm.deploy.formats import Forward
from ibkd_mm.deploy.runtime import Instance, ModelInfo, letterbox, to_instances
from ibkd_mm.utils.silence import quiet

ALLOWED_LOSS = 0.05


@dataclass(frozen=True)
class Precision:
    """Average precision of a quantised file beside that of the same file in float32."""

    name: str
    float32: float
    quantised: float

    @property
    def passed(self) -> bool:
        """Whether quantising cost little."""
        return self.float32 - self.quantised <= ALLOWED_LOSS

    def __str__(self) -> str:
        return (
            f"  {self.name}  {self.float32:.4f} in float32, {self.quantised:.4f} in int8 "
            f"(allowed: {ALLOWED_LOSS:g} less)"
        )


def average_precision(
    forward: Forward, info: ModelInfo, config: Config, pictures: Pictures
) -> tuple[str, float]:
    """Evaluate a file on pictures of the config's test data, by the first of its metrics.

    Args:
        forward: runs the file, one picture at a time.
        info: what the file says of itself.
        config: with `test_evaluator`.
        pictures: of the test data.

    Returns:
        name and value, of masks where there are any.
    """
    settings = config.test_evaluator
    with quiet():
        metric = METRICS.build(settings[0] if isinstance(settings, list) else settings)
    metric.dataset_meta = pictures.dataset.metainfo
    metric.img_ids = []  # of these pictures alone; others it would hold for pictures of nothing found
    for place, picture in zip(pictures.places, pictures, strict=True):
        images, frame = letterbox(picture, info)
        outputs = {name: each[0] for name, each in forward(images).items()}
        found = to_instances(outputs, frame, info, info.score_threshold)
        image = pictures.dataset.get_data_info(place)["img_id"]
        metric.img_ids.append(image)
        sample = {"img_id": image, "ori_shape": picture.shape[:2]}
        metric.process({}, [{**sample, "pred_instances": _as_tensors(found, picture)}])
    with quiet(MMLogger.get_current_instance()):
        metrics = metric.evaluate(len(pictures))
    by_name = {name.rpartition("/")[2]: value for name, value in metrics.items()}
    name = "segm_mAP" if "segm_mAP" in by_name else "bbox_mAP"
    return name, float(by_name[name])


def _as_tensors(found: list[Instance], picture: np.ndarray) -> Any:
    """Put instances as metrics of mmdet take them."""
    data = InstanceData(
        bboxes=torch.from_numpy(np.array([each.box for each in found], np.float32).reshape(-1, 4)),
        scores=torch.tensor([each.score for each in found]),
        labels=torch.tensor([each.label for each in found], dtype=torch.long),
    )
    masks = [each.mask for each in found if each.mask is not None]
    if masks or not found:
        data.masks = torch.from_numpy(np.array(masks, bool).reshape(-1, *picture.shape[:2]))
    return data
