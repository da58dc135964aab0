"""Convert detections in the network's input into the instances of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.structures import InstanceData
from torch import Tensor

from ibkd_mm.yolov10.detections import Detections
from ibkd_mm.yolov10.mask_paste import Frame, paste_masks


@dataclass(frozen=True)
class Predictor:
    """Selects detections by score and assembles the masks of these.

    Args:
        score_thr: detections with higher scores are kept.
        mask_thr_binary: pixels with a higher probability belong to the instance.
        max_pixels: maximum number of mask pixels interpolated at once, on a GPU.
    """

    max_per_img: int
    score_thr: float
    mask_thr_binary: float
    max_pixels: int

    def instances(
        self,
        found: Detections,
        prototypes: Tensor | None,
        metas: list[Mapping[str, Any]],
        *,
        stride: int,
        rescale: bool,
    ) -> list[InstanceData]:
        """Convert the detections of a batch into `bboxes`, `scores`, `labels` and `masks` of each image.

        Prototypes are (B, P, h, w), None for boxes only. `rescale` is whether results refer to the original
        image or to the network's input.
        """
        results = []
        for index, meta in enumerate(metas):
            frame = Frame.from_meta(meta, rescale)
            kept = found.scores[index] > self.score_thr
            boxes = frame.boxes(found.boxes[index, kept])
            instances = InstanceData(
                bboxes=boxes, scores=found.scores[index, kept], labels=found.labels[index, kept]
            )
            if prototypes is not None and found.coefficients is not None:
                logits = found.coefficients[index, kept] @ prototypes[index].float().flatten(1)
                instances.masks = paste_masks(
                    logits.sigmoid().unflatten(1, prototypes.shape[-2:]),
                    boxes,
                    frame,
                    stride=stride,
                    threshold=self.mask_thr_binary,
                    # one at a time on a CPU, which has no launch overhead
                    chunk=max(self.max_pixels // (frame.height * frame.width), 1) if boxes.is_cuda else 1,
                )
            results.append(instances)
        return results
