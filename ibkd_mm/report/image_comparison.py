"""Validation images in which baseline and distilled predictions differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as rle

from ibkd_mm.report.model_results import Instance, ModelResults
from ibkd_mm.report.plot_style import NoDataError
from ibkd_mm.visual.overlay import Image, overlay

MAX_IMAGES = 6
GROUND_TRUTH = "ground truth"
_MAX_SIDE = 320  # of a drawn image, in pixels; small images are enlarged


@dataclass(frozen=True)
class ComparedImage:
    """One image with ground truth and predictions by caption, each model's mean IoU, and drawn classes."""

    name: str
    drawings: dict[str, Image]
    iou: dict[str, float]
    labels: set[int]


def mean_best_iou(predictions: Sequence[Instance], ground_truth: Sequence[Instance]) -> float:
    """Return the best mask IoU of a prediction of the same class, averaged over the ground truth."""
    if not predictions:
        return 0.0
    masks = [[instance.mask for instance in instances] for instances in (predictions, ground_truth)]
    labels = [[instance.label for instance in instances] for instances in (predictions, ground_truth)]
    ious = np.asarray(rle.iou(*masks, [0] * len(ground_truth)))
    return float((ious * np.equal.outer(*labels)).max(axis=0).mean())


def rank_by_difference(results: ModelResults, baseline: str, distilled: Sequence[str]) -> list[int]:
    """Return the images in which a distilled student's IoU differs most from the baseline's, either way."""
    gaps = {}
    for index, image in enumerate(results.images):
        if image.ground_truth:
            reference, *others = (
                mean_best_iou(results.models[label].predictions[index], image.ground_truth)
                for label in (baseline, *distilled)
            )
            gaps[index] = max(abs(other - reference) for other in others)
    return [index for index in sorted(gaps, key=lambda index: -gaps[index]) if gaps[index] > 0][:MAX_IMAGES]


def compare_images(results: ModelResults, baseline: str, distilled: Sequence[str]) -> list[ComparedImage]:
    """Draw the images that differ most: ground truth, teachers, baseline, distilled students."""
    students = [label for label in distilled if label in results.models]
    if baseline not in results.models or not students:
        raise NoDataError("this needs a baseline and a distilled student that were evaluated.")
    ranked = rank_by_difference(results, baseline, students)
    if not ranked:
        raise NoDataError("the masks of baseline and distilled students differ in no image.")
    labels = [*results.teachers, baseline, *students]
    return [_compare(results, index, labels) for index in ranked]


def _compare(results: ModelResults, index: int, labels: Sequence[str]) -> ComparedImage:
    path, ground_truth = results.images[index].path, results.images[index].ground_truth
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise NoDataError(f"{path} can no longer be read.")
    predictions = {label: results.models[label].predictions[index] for label in labels}
    shown = {GROUND_TRUTH: ground_truth, **predictions}
    image = pixels.astype(np.uint8, copy=False)
    return ComparedImage(
        path.name,
        {label: _draw(image, instances, results) for label, instances in shown.items()},
        {label: mean_best_iou(instances, ground_truth) for label, instances in predictions.items()},
        {instance.label for instances in shown.values() for instance in instances},
    )


def _draw(image: Image, instances: Sequence[Instance], results: ModelResults) -> Image:
    """Draw instances without class names, which would overlap; the most confident on top."""
    instances = sorted(instances, key=lambda instance: instance.score)
    height, width = image.shape[:2]
    masks = np.array([rle.decode(each.mask) for each in instances], np.uint8).reshape(-1, height, width)
    scale = _MAX_SIDE // max(height, width)
    if not scale:  # shrink before drawing, so that outlines are as thin as in other images
        shrink = _MAX_SIDE / max(height, width)
        size = (round(width * shrink), round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        small = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]
        masks = np.array(small, np.uint8).reshape(-1, size[1], size[0])
    labels = [instance.label for instance in instances]
    return overlay(image, masks.astype(bool), labels, results.palette, scale=max(scale, 1))
