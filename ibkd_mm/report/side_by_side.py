"""The pictures in which baseline and distilled differ most, as truth and each model have them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as rle

from ibkd_mm.report.evaluated import Evaluation, Instance
from ibkd_mm.report.style import LeftOutError
from ibkd_mm.visual.overlay import Image, overlay

MOST = 6
TRUTH = "ground truth"

_SIDE = 320
"""Of a drawn picture at most, in pixels; smaller ones are enlarged up to that."""


@dataclass(frozen=True)
class Row:
    """One picture as everybody has it.

    Args:
        name: of its file.
        drawn: by caption.
        overlap: mean best mask IoU over the true instances, by caption; the truth has none.
        labels: of all classes that are drawn.
    """

    name: str
    drawn: dict[str, Image]
    overlap: dict[str, float]
    labels: set[int]


def overlap(found: Sequence[Instance], truth: Sequence[Instance]) -> float:
    """Give the mean over true instances of the best mask IoU of what was found of their class."""
    if not truth:
        raise ValueError("without a true instance there is no mean")
    best = np.zeros(len(truth))
    if found:
        ious = np.asarray(rle.iou([one.mask for one in found], [one.mask for one in truth], [0] * len(truth)))
        same = np.equal.outer([one.label for one in found], [one.label for one in truth])
        best = (ious * same).max(axis=0)
    return float(best.mean())


def most_different(evaluation: Evaluation, baseline: str, distilled: Sequence[str]) -> list[int]:
    """Rank the pictures by how far any distilled student's overlap is from the baseline's, either way."""
    apart = {}
    for place, picture in enumerate(evaluation.pictures):
        if picture.truth:
            at, *others = (
                overlap(evaluation.models[label].found[place], picture.truth)
                for label in (baseline, *distilled)
            )
            apart[place] = max(abs(other - at) for other in others)
    return [place for place in sorted(apart, key=lambda place: -apart[place]) if apart[place] > 0][:MOST]


def side_by_side(evaluation: Evaluation, baseline: str | None, distilled: Sequence[str]) -> list[Row]:
    """Draw the pictures that differ most: ground truth, teachers, baseline, distilled."""
    students = [label for label in distilled if label in evaluation.models]
    if baseline not in evaluation.models or not students:
        raise LeftOutError("it takes a baseline and a distilled student that were evaluated.")
    places = most_different(evaluation, baseline, students)
    if not places:
        raise LeftOutError("in no picture do the masks differ that baseline and distilled students find.")
    labels = [*evaluation.teachers, baseline, *students]
    return [_row(evaluation, place, labels) for place in places]


def _row(evaluation: Evaluation, place: int, labels: Sequence[str]) -> Row:
    picture = evaluation.pictures[place]
    image = cv2.imread(str(picture.path), cv2.IMREAD_COLOR)
    if image is None:
        raise LeftOutError(f"{picture.path} cannot be read any more.")
    found = {label: evaluation.models[label].found[place] for label in labels}
    return Row(
        picture.path.name,
        {
            name: _drawn(image.astype(np.uint8, copy=False), seen, evaluation)
            for name, seen in {TRUTH: picture.truth, **found}.items()
        },
        {label: overlap(seen, picture.truth) for label, seen in found.items()},
        {one.label for seen in (picture.truth, *found.values()) for one in seen},
    )


def _drawn(image: Image, instances: Sequence[Instance], evaluation: Evaluation) -> Image:
    """Draw without names, which would cover each other where instances do; the surest come on top."""
    instances = sorted(instances, key=lambda one: one.score)
    height, width = image.shape[:2]
    masks = np.array([rle.decode(one.mask) for one in instances], np.uint8).reshape(-1, height, width)
    scale = _SIDE // max(height, width)
    if not scale:  # shrunk before anything is drawn, so that outlines are as thin as elsewhere
        shrink = _SIDE / max(height, width)
        size = (round(width * shrink), round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        small = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]
        masks = np.array(small, np.uint8).reshape(-1, size[1], size[0])
    labels = [one.label for one in instances]
    return overlay(image, masks.astype(bool), labels, evaluation.palette, scale=max(scale, 1))
