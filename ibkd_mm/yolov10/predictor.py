"""From detections in the network's input to the instances of pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.structures import InstanceData
from torch import Tensor

from ibkd_mm.yolov10.detections import Detections
from ibkd_mm.yolov10.mask_paste import Frame, paste


@dataclass(frozen=True)
class Predictor:
    """Keeps the detections that are sure enough and assembles the masks of these alone.

    Args:
        max_per_img: most instances of a picture.
        score_thr: what a score must exceed.
        mask_thr_binary: what the share of a pixel must exceed to be the instance's.
        max_pixels: most pixels of masks interpolated at once, on a GPU.
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
        """Turn the detections of a batch into `bboxes`, `scores`, `labels` and `masks` of each picture.

        Args:
            found: of B images.
            prototypes: (B, P, h, w), if masks are wanted.
            metas: what the pipeline noted of each.
            stride: of the prototypes.
            rescale: whether for the original picture, or for the network's input.
        """
        results = []
        for index, meta in enumerate(metas):
            frame = Frame.of(meta, rescale)
            kept = found.scores[index] > self.score_thr
            boxes = frame.boxes(found.boxes[index, kept])
            instances = InstanceData(
                bboxes=boxes, scores=found.scores[index, kept], labels=found.labels[index, kept]
            )
            if prototypes is not None and found.coefficients is not None:
                logits = found.coefficients[index, kept] @ prototypes[index].float().flatten(1)
                instances.masks = paste(
                    logits.sigmoid().unflatten(1, prototypes.shape[-2:]),
                    boxes,
                    frame,
                    stride=stride,
                    threshold=self.mask_thr_binary,
                    together=self._together(frame, boxes),
                )
            results.append(instances)
        return results

    def _together(self, frame: Frame, boxes: Tensor) -> int:
        """Say how many masks at a time: on a CPU, where starting work costs little, each by itself."""
        return max(self.max_pixels // (frame.height * frame.width), 1) if boxes.is_cuda else 1
