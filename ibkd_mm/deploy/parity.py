"""Whether an exported file finds what the model finds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ibkd_mm.deploy.formats import Forward
from ibkd_mm.deploy.runtime import Frame, ModelInfo, letterbox, share_of, to_instances
from ibkd_mm.yolov10.export_graph import DeployedStudent

Outputs = Mapping[str, np.ndarray]

_OTHER = 1e3
"""Cost of taking two instances of different classes for the same."""


@dataclass(frozen=True)
class Tolerance:
    """What is still the same: boxes as a share of the input's longer side, scores and masks as shares."""

    boxes: float
    shares: float
    iou: float


TOLERANCES = {"fp32": Tolerance(1e-4, 1e-4, 0.99), "fp16": Tolerance(5e-3, 5e-2, 0.9)}


@dataclass(frozen=True)
class Parity:
    """How far a file's results are from the model's at worst, over all pictures."""

    tolerance: Tolerance
    boxes: float = 0.0
    scores: float = 0.0
    masks: float = 0.0
    iou: float = 1.0
    instances: int = 0
    missing: int = 0
    drawn: int = 0
    """Masks compared in the pictures: of the instances that an evaluation would look at."""

    @property
    def passed(self) -> bool:
        """Whether anything was compared, and all of it is within the tolerance."""
        limit, share = self.tolerance, max(self.scores, self.masks)
        near = self.boxes <= limit.boxes and share <= limit.shares and self.iou >= limit.iou
        return near and not self.missing and self.instances > 0

    def worst_of(self, other: "Parity") -> "Parity":
        """Put two findings together."""
        return Parity(
            self.tolerance,
            boxes=max(self.boxes, other.boxes),
            scores=max(self.scores, other.scores),
            masks=max(self.masks, other.masks),
            iou=min(self.iou, other.iou),
            instances=self.instances + other.instances,
            missing=self.missing + other.missing,
            drawn=self.drawn + other.drawn,
        )

    def __str__(self) -> str:
        if not self.instances and not self.missing:
            return (
                "  nothing could be compared: all scores are alike, as before a training, and file and\n"
                "  model took others. Export a student that has learnt, or leave the check out: --no-check"
            )
        limit = self.tolerance
        missing = f", {self.missing} without a counterpart" if self.missing else ""
        return "\n".join(
            [
                f"  instances  {self.instances} compared{missing}",
                f"  boxes      {self.boxes:.1e} of the size at most (allowed: {limit.boxes:g})",
                f"  scores     {self.scores:.1e} at most (allowed: {limit.shares:g})",
                f"  masks      {self.masks:.1e} of a share at most (allowed: {limit.shares:g}); IoU of "
                f"{self.drawn} in the pictures {self.iou:.4f} at least (allowed: {limit.iou:g})",
            ]
        )


def check_parity(
    forward: Forward, graph: DeployedStudent, info: ModelInfo, pictures: Iterable[np.ndarray], batch: int
) -> Parity:
    """Compare a file with the model on pictures.

    Where no score of any picture is higher than the last, as before a training, those instances are compared
    of which both happened to take the same.

    Args:
        forward: runs the file.
        graph: the model in float32, as it was exported.
        info: what the file says of itself.
        pictures: (height, width, 3), bytes, RGB; may be gone through twice.
        batch: how many the file takes at a time; one that takes any number gets each with its mirror image.
    """
    found = _compare_all(forward, graph, info, pictures, batch, alike=False)
    if found.instances or found.missing:
        return found
    return _compare_all(forward, graph, info, pictures, batch, alike=True)


def _compare_all(
    forward: Forward,
    graph: DeployedStudent,
    info: ModelInfo,
    pictures: Iterable[np.ndarray],
    batch: int,
    *,
    alike: bool,
) -> Parity:
    found = Parity(TOLERANCES[info.precision])
    for images, frames in _batches(pictures, info, batch):
        results = forward(images)
        with torch.no_grad():
            wanted = [each.numpy() for each in graph(torch.from_numpy(images))]
        for place, frame in enumerate(frames):
            expected = {name: each[place] for name, each in zip(graph.outputs, wanted, strict=True)}
            result = {name: each[place] for name, each in results.items()}
            size = max(images.shape[2:])
            found = found.worst_of(compare(result, expected, frame, info, size, alike=alike))
    return found


def _batches(
    pictures: Iterable[np.ndarray], info: ModelInfo, batch: int
) -> Iterator[tuple[np.ndarray, list[Frame]]]:
    """Make inputs of pictures; the last one is repeated where they do not fill the last batch."""
    rest = iter(pictures)
    while group := list(islice(rest, 1 if info.dynamic else batch)):
        group += [group[-1]] * (0 if info.dynamic else batch - len(group))
        if info.dynamic:
            group.append(np.ascontiguousarray(group[0][:, ::-1]))
        images, frames = zip(*(letterbox(picture, info) for picture in group), strict=True)
        yield np.concatenate(images), list(frames)


def compare(
    result: Outputs, expected: Outputs, frame: Frame, info: ModelInfo, size: int, *, alike: bool = False
) -> Parity:
    """Compare what was found in one picture, each instance with its counterpart.

    The order of scores that are nearly equal may differ, and which of those come last that are nearly as good
    as the last one; both is as it should be. What holds anything but numbers has no counterpart.

    Args:
        result: of the file.
        expected: of the model.
        frame: how the picture lies in the input.
        info: what the file says of itself.
        size: longer side of the input.
        alike: whether to compare those as good as the last one, where their counterparts are there.
    """
    tolerance = TOLERANCES[info.precision]
    whole = np.logical_and.reduce(
        [np.isfinite(each).reshape(len(each), -1).all(1) for each in result.values()]
    )
    result = _chosen(result, np.flatnonzero(whole))
    boxes = np.abs(result["boxes"][:, None] - expected["boxes"][None]).max(2) / size
    scores = np.abs(result["scores"][:, None] - expected["scores"][None])
    other = result["labels"][:, None] != expected["labels"][None]
    own, theirs = linear_sum_assignment(boxes + scores + _OTHER * other)
    last = result["scores"].min(initial=1) + tolerance.shares
    sure = np.maximum(result["scores"][own], expected["scores"][theirs]) > last
    missed = np.setdiff1d(np.flatnonzero(expected["scores"] > last), theirs)
    same = ~other[own, theirs]
    missing = len(missed) + int((sure & ~same).sum()) + int((~whole).sum())
    there = (boxes[own, theirs] <= tolerance.boxes) & (scores[own, theirs] <= tolerance.shares)
    chosen = same & (there if alike else sure)
    own, theirs = own[chosen], theirs[chosen]
    masks, ious = _compare_masks(_chosen(result, own), _chosen(expected, theirs), frame, info)
    return Parity(
        tolerance,
        boxes=float(boxes[own, theirs].max(initial=0)),
        scores=float(scores[own, theirs].max(initial=0)),
        masks=masks,
        iou=min(ious, default=1.0),
        instances=len(own),
        missing=missing,
        drawn=len(ious),
    )


def _chosen(outputs: Outputs, places: np.ndarray) -> dict[str, np.ndarray]:
    return {name: each[places] for name, each in outputs.items()}


def _compare_masks(
    result: Outputs, expected: Outputs, frame: Frame, info: ModelInfo
) -> tuple[float, list[float]]:
    """Give the largest difference of shares, and the IoUs in the picture of what an evaluation looks at."""
    if "masks" not in result or not len(result["masks"]):
        return 0.0, []
    shares = [share_of(each["masks"]) for each in (result, expected)]
    # where the one is cut off and the other not yet, enlarging asks for neither
    inside = _in_boxes(expected["boxes"] / info.mask_stride, shares[0].shape[1:])
    share = float((np.abs(shares[0] - shares[1]) * inside).max())
    drawn = [to_instances(each, frame, info, -1.0) for each in (result, expected)]
    sure = expected["scores"] > info.score_threshold
    ious = [
        intersection_over_union(one.mask, another.mask)
        for one, another, shown in zip(*drawn, sure, strict=True)
        if shown and one.mask is not None and another.mask is not None
    ]
    return share, ious


def _in_boxes(boxes: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Mark the cells whose centres are in boxes: (N, 4) -> (N, h, w)."""
    rows, columns = (np.arange(side) + 0.5 for side in size)
    left, top, right, bottom = boxes.T[..., None]
    inside_rows, inside_columns = (rows >= top) & (rows <= bottom), (columns >= left) & (columns <= right)
    return inside_rows[:, :, None] & inside_columns[:, None]


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """Compare two masks; a single pixel that differs, on the threshold, is not counted."""
    union = int((one | other).sum())
    different = int((one ^ other).sum())
    return 1.0 - max(different - 1, 0) / union if union else 1.0
