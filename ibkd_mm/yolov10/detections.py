"""The best detections of each image, without NMS: the one-to-one branch predicts each instance once."""

from typing import NamedTuple

from torch import Tensor

from ibkd_mm.yolov10.distances import DistanceDecoder
from ibkd_mm.yolov10.structures import HeadOutputs


class Detections(NamedTuple):
    """The K best detections of each of B images, the best first."""

    scores: Tensor  # (B, K)
    labels: Tensor  # (B, K)
    boxes: Tensor  # (B, K, 4) as x1, y1, x2, y2 in pixels of the network's input
    coefficients: Tensor | None  # (B, K, P), None for boxes only


def detect(outputs: HeadOutputs, anchors: Tensor, decoder: DistanceDecoder, count: int) -> Detections:
    """Select the `count` best pairs of anchor and class, among the (A, 3) anchors with the highest scores."""
    scores, labels, best = select_best(outputs.class_logits.float(), count)
    boxes = decoder(_take(outputs.distance_logits, best), anchors[best])
    if outputs.coefficients is None:
        return Detections(scores, labels, boxes, None)
    coefficients = _take(outputs.coefficients, best).float()
    return Detections(scores, labels, boxes, coefficients.transpose(1, 2))


def select_best(class_logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Select scores, labels and anchors, (B, classes, A) -> three of (B, K)."""
    classes, anchors = class_logits.shape[1:]
    count = min(count, anchors)
    best = class_logits.amax(dim=1).topk(count).indices
    logits, place = _take(class_logits, best).transpose(1, 2).flatten(1).topk(count)
    anchor = place.div(classes, rounding_mode="floor")
    return logits.sigmoid(), place % classes, best.gather(1, anchor)


def _take(values: Tensor, anchors: Tensor) -> Tensor:
    """Gather the values of anchors, (B, C, A), (B, K) -> (B, C, K)."""
    return values.gather(2, anchors.unsqueeze(1).expand(-1, values.shape[1], -1))
