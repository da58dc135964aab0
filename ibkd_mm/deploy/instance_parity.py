"""Parity rule for instances: boxes, scores and masks of a file equal those of the model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ibkd_mm.deploy.check_images import load_check_images
from ibkd_mm.deploy.formats import Forward
from ibkd_mm.deploy.runtime import Frame, ModelInfo, letterbox, sigmoid, to_instances
from ibkd_mm.deploy.task import Checked, ExportTask
from ibkd_mm.distill.interfaces import ExportGraph

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """Allowed differences: boxes as a fraction of the input's longer side, probabilities, IoU of masks."""

    boxes: float
    probabilities: float
    iou: float


TOLERANCES = {"fp32": Tolerance(1e-4, 1e-4, 0.99), "fp16": Tolerance(5e-3, 5e-2, 0.9)}


@dataclass(frozen=True)
class InstanceParity:
    """The largest differences between the instances of a file and of the model, over all images.

    `full_masks` were compared at image size: those of instances whose score counts in an evaluation.
    """

    tolerance: Tolerance
    boxes: float = 0.0
    scores: float = 0.0
    masks: float = 0.0
    iou: float = 1.0
    instances: int = 0
    missing: int = 0
    full_masks: int = 0

    @property
    def passed(self) -> bool:
        """Whether anything was compared and all of it is within the tolerance."""
        limit, probability = self.tolerance, max(self.scores, self.masks)
        is_near = self.boxes <= limit.boxes and probability <= limit.probabilities and self.iou >= limit.iou
        return is_near and not self.missing and self.instances > 0

    def merge(self, other: "InstanceParity") -> "InstanceParity":
        """Combine the parity of two images."""
        ours, theirs = vars(self), vars(other)
        worst = {name: max(ours[name], theirs[name]) for name in ("boxes", "scores", "masks")}
        counts = {name: ours[name] + theirs[name] for name in ("instances", "missing", "full_masks")}
        return InstanceParity(self.tolerance, iou=min(self.iou, other.iou), **worst, **counts)

    def __str__(self) -> str:
        if not self.instances and not self.missing:
            return (
                "  nothing could be compared: all scores are equal, as before training, and file and model\n"
                "  chose different instances. Export a trained student, or skip the check: --no-check"
            )
        limit = self.tolerance
        missing = f", {self.missing} without a counterpart" if self.missing else ""
        return (
            f"  instances  {self.instances} compared{missing}\n"
            f"  boxes      {self.boxes:.1e} of the input size at most (allowed: {limit.boxes:g})\n"
            f"  scores     {self.scores:.1e} at most (allowed: {limit.probabilities:g})\n"
            f"  masks      {self.masks:.1e} in probability at most (allowed: {limit.probabilities:g}); "
            f"IoU of {self.full_masks} at image size {self.iou:.4f} at least (allowed: {limit.iou:g})"
        )


def check_instances(forward: Forward, task: ExportTask) -> Checked:
    """Compare a file with the model on images of the test data."""
    images = load_check_images(task.config, task.check_images)
    parity = compare_files(forward, task.graph, task.info, images, task.settings.batch)
    return Checked(parity, len(images), images.source)


def compare_files(
    forward: Forward, graph: ExportGraph, info: ModelInfo, images: Iterable[np.ndarray], batch: int
) -> InstanceParity:
    """Compare a file with the model on images, (height, width, 3) uint8 RGB, which may be iterated twice.

    If all scores are tied in every image, as before training, only instances that both chose are compared.
    """
    for tied in (False, True):
        parity = InstanceParity(TOLERANCES[info.precision])
        for inputs, frames in _batches(images, info, batch):
            results = forward(inputs)
            with torch.no_grad():
                outputs = [each.numpy() for each in graph(torch.from_numpy(inputs))]
            for place, frame in enumerate(frames):
                expected = {name: each[place] for name, each in zip(graph.outputs, outputs, strict=True)}
                result = {name: each[place] for name, each in results.items()}
                size = max(inputs.shape[2:])
                parity = parity.merge(compare_instances(result, expected, frame, info, size, tied=tied))
        if parity.instances or parity.missing:
            break
    return parity


def _batches(
    images: Iterable[np.ndarray], info: ModelInfo, batch: int
) -> Iterator[tuple[np.ndarray, list[Frame]]]:
    """Fill batches with the last image; if their size is dynamic, pair each image with its mirror image."""
    rest = iter(images)
    while group := list(islice(rest, 1 if info.dynamic else batch)):
        if info.dynamic:
            group.append(np.ascontiguousarray(group[0][:, ::-1]))
        else:
            group += [group[-1]] * (batch - len(group))
        inputs, frames = zip(*(letterbox(image, info) for image in group), strict=True)
        yield np.concatenate(inputs), list(frames)


def compare_instances(
    result: Outputs, expected: Outputs, frame: Frame, info: ModelInfo, size: int, *, tied: bool = False
) -> InstanceParity:
    """Match the instances of one image and compare each pair.

    Two differences are allowed: the order of instances whose scores are nearly equal, and the choice among
    those that are nearly tied with the last one. Instances with values that are not finite count as missing.
    `size` is the longer side of the input; `tied` compares the pairs that are within the tolerance instead.
    """
    tolerance = TOLERANCES[info.precision]
    finite = np.all([np.isfinite(each).reshape(len(each), -1).all(1) for each in result.values()], axis=0)
    result = _select(result, np.flatnonzero(finite))
    boxes = np.abs(result["boxes"][:, None] - expected["boxes"][None]).max(2) / size
    scores = np.abs(result["scores"][:, None] - expected["scores"][None])
    is_other = result["labels"][:, None] != expected["labels"][None]
    pairs = rows, columns = linear_sum_assignment(boxes + scores + 1e3 * is_other)
    last = result["scores"].min(initial=1) + tolerance.probabilities
    is_sure = np.maximum(result["scores"][rows], expected["scores"][columns]) > last
    unmatched = np.setdiff1d(np.flatnonzero(expected["scores"] > last), columns)
    same = ~is_other[pairs]
    missing = len(unmatched) + int((is_sure & ~same).sum()) + int((~finite).sum())
    is_near = (boxes[pairs] <= tolerance.boxes) & (scores[pairs] <= tolerance.probabilities)
    chosen = same & (is_near if tied else is_sure)
    pairs = rows, columns = rows[chosen], columns[chosen]
    masks, ious = _compare_masks(_select(result, rows), _select(expected, columns), frame, info)
    box, score = (float(each[pairs].max(initial=0)) for each in (boxes, scores))
    iou = min(ious, default=1.0)
    return InstanceParity(tolerance, box, score, masks, iou, len(rows), missing, full_masks=len(ious))


def _select(outputs: Outputs, places: np.ndarray) -> dict[str, np.ndarray]:
    return {name: each[places] for name, each in outputs.items()}


def _compare_masks(
    result: Outputs, expected: Outputs, frame: Frame, info: ModelInfo
) -> tuple[float, list[float]]:
    """Return the largest difference of probabilities, and the IoUs at image size of evaluated instances."""
    if "masks" not in result or not len(result["masks"]):
        return 0.0, []
    probabilities = [sigmoid(each["masks"]) for each in (result, expected)]
    # enlarging reads no cells outside the boxes, where one may be cut off and the other not
    inside = _cells_in_boxes(expected["boxes"] / info.mask_stride, probabilities[0].shape[1:])
    difference = float((np.abs(probabilities[0] - probabilities[1]) * inside).max())
    instances = [to_instances(each, frame, info, -1.0) for each in (result, expected)]
    evaluated = expected["scores"] > info.score_threshold
    ious = [
        intersection_over_union(one.mask, other.mask)
        for one, other, is_evaluated in zip(*instances, evaluated, strict=True)
        if is_evaluated and one.mask is not None and other.mask is not None
    ]
    return difference, ious


def _cells_in_boxes(boxes: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Mark the cells whose centres are in boxes: (N, 4) -> (N, h, w)."""
    rows, columns = (np.arange(side) + 0.5 for side in size)
    left, top, right, bottom = boxes.T[..., None]
    inside_rows, inside_columns = (rows >= top) & (rows <= bottom), (columns >= left) & (columns <= right)
    return inside_rows[:, :, None] & inside_columns[:, None]


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """Compare two masks; one different pixel is ignored, because it may be on the threshold."""
    union = int((one | other).sum())
    different = int((one ^ other).sum())
    return 1.0 - max(different - 1, 0) / union if union else 1.0
