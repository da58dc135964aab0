"""Average precision of an exported file, measured as `ibkd test` measures it."""

from dataclasses import dataclass

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from mmengine.structures import InstanceData

from ibkd_mm.deploy.check_images import CheckImages, load_images
from ibkd_mm.deploy.formats import Forward
from ibkd_mm.deploy.runtime import Instance, letterbox, to_instances
from ibkd_mm.deploy.task import Checked, ExportTask
from ibkd_mm.errors import UserError
from ibkd_mm.utils.silence import quiet

ALLOWED_LOSS = 0.05


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of a quantised file and of the same file in float32."""

    name: str
    float32: float
    quantised: float

    @property
    def passed(self) -> bool:
        """Whether quantisation costs little."""
        return self.float32 - self.quantised <= ALLOWED_LOSS

    def __str__(self) -> str:
        measured = f"{self.float32:.4f} in float32, {self.quantised:.4f} in int8"
        return f"  {self.name}  {measured} (allowed: {ALLOWED_LOSS:g} less)"


def check_average_precision(float32: Forward, quantised: Forward, task: ExportTask) -> Checked:
    """Compare the average precision of a quantised file with that in float32, on images of the test data."""
    try:
        images = load_images(task.config, "test", task.check_images)
    except FileNotFoundError as error:
        raise UserError(
            f"int8 is checked by average precision, but the test data are missing: {error}. Put them "
            "there, or skip the check: --no-check"
        ) from error
    (name, before), (_, after) = (average_precision(each, task, images) for each in (float32, quantised))
    return Checked(AveragePrecision(name, before, after), len(images), images.source)


def average_precision(forward: Forward, task: ExportTask, images: CheckImages) -> tuple[str, float]:
    """Return name and value of the mAP, of masks if there are any, by the config's first test metric."""
    info, evaluator = task.info, task.config.test_evaluator
    with quiet():
        metric = METRICS.build(evaluator[0] if isinstance(evaluator, list) else evaluator)
    metric.dataset_meta = images.dataset.metainfo
    metric.img_ids = []  # evaluate these images alone; by default all others count as without predictions
    for index, image in zip(images.indices, images, strict=True):
        inputs, frame = letterbox(image, info)
        batch = forward(np.repeat(inputs, task.settings.batch, axis=0))
        outputs = {name: each[0] for name, each in batch.items()}
        found = _to_tensors(to_instances(outputs, frame, info, info.score_threshold), image.shape[:2])
        metric.img_ids.append(images.dataset.get_data_info(index)["img_id"])
        sample = {"img_id": metric.img_ids[-1], "ori_shape": image.shape[:2], "pred_instances": found}
        metric.process({}, [sample])
    with quiet(MMLogger.get_current_instance()):
        metrics = metric.evaluate(len(images))
    values = {name.rpartition("/")[2]: value for name, value in metrics.items()}
    name = "segm_mAP" if "segm_mAP" in values else "bbox_mAP"
    return name, float(values[name])


def _to_tensors(instances: list[Instance], size: tuple[int, ...]) -> InstanceData:
    data = InstanceData(
        bboxes=torch.from_numpy(np.array([each.box for each in instances], np.float32).reshape(-1, 4)),
        scores=torch.tensor([each.score for each in instances]),
        labels=torch.tensor([each.label for each in instances], dtype=torch.long),
    )
    masks = [each.mask for each in instances if each.mask is not None]
    if masks or not instances:
        data.masks = torch.from_numpy(np.array(masks, bool).reshape(-1, *size))
    return data
