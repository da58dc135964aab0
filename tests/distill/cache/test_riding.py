"""A cache filled with the ground truth gives the ground truth back, whatever a pipeline does to it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

LOAD = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}]
END = [{"type": "PackDetInputs"}, {"type": "ibkd_mm.MaskCells"}]
AFFINE = {"type": "ibkd_mm.MosaicAffine", "size": (64, 64), "degrees": 15.0, "shear": 5.0}
UPRIGHT = {"type": "ibkd_mm.MosaicAffine", "size": (96, 64), "prob": 0.5}
PASTE = {"type": "ibkd_mm.PasteInstances", "prob": 0.9}
FLIP = {"type": "RandomFlip", "prob": [0.25] * 3, "direction": ["horizontal", "vertical", "diagonal"]}
JITTER = {"type": "ibkd_mm.HSVJitter"}
CROP = {"type": "RandomCrop", "crop_size": (40, 36), "allow_negative_crop": True}
ALONE: dict[str, list[Any]] = {
    "nothing": [],
    "flips": [FLIP],
    "resize": [{"type": "Resize", "scale": (100, 80), "keep_ratio": False}],
    "crop": [CROP],
    "all": [
        {"type": "Resize", "scale": (90, 70), "keep_ratio": True},
        {**CROP, "recompute_bbox": True},
        FLIP,
    ],
}
MIXED: dict[str, list[list[Any]]] = {
    "upright mosaic": [[UPRIGHT]],
    "turned mosaic": [[AFFINE]],
    "pasted": [[AFFINE], [PASTE, {"type": "Compose", "transforms": [JITTER, FLIP]}]],
}


def drawn(samples: Any, index: int) -> Any:
    """Read a sample as it would be drawn with a seed."""
    random.seed(index)
    np.random.seed(index)
    return samples[index]["data_samples"]


def want_equal(found: InstanceData, expected: InstanceData, labels: torch.Tensor) -> None:
    assert len(found) == len(expected)
    assert torch.equal(labels, expected.labels)
    assert torch.equal(found.mask_cells, expected.mask_cells)
    boxes = [getattr(each.bboxes, "tensor", each.bboxes) for each in (found, expected)]
    torch.testing.assert_close(*boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*ALONE, *MIXED])
def test_what_the_teacher_saw_is_warped_as_the_ground_truth_is(
    name: str, dataset: Callable[..., Any], truth_cache: Path
) -> None:
    loading = {"type": "ibkd_mm.LoadTeacherInstances", "cache": str(truth_cache)}
    split = {"type": "ibkd_mm.SplitTeacherInstances", "cache": str(truth_cache)}
    if name in ALONE:
        plain = dataset([*LOAD, *ALONE[name], *END])
        cached = dataset([*LOAD, loading, *ALONE[name], *END, split])
    else:
        *first, last = MIXED[name]
        plain = dataset(LOAD, *first, [*last, *END])
        cached = dataset([*LOAD, loading], *first, [*last, *END, split])
    learnt = crowds = 0
    for index in range(200):
        expected, found = drawn(plain, index), drawn(cached, index)
        for kind in ("gt_instances", "ignored_instances"):  # as if nothing had ridden along
            own, other = getattr(found, kind), getattr(expected, kind)
            want_equal(own, other, own.labels)
        seen, truth = found.teacher_instances, found.gt_instances
        want_equal(seen, truth, seen.probabilities.argmax(1) if len(seen) else truth.labels)
        assert len(seen) == len(seen.probabilities) == len(seen.scores)
        if name in ALONE:  # each with what was thought of it, and of no other
            place = (seen.scores - 0.5 - (index + 1) % 89 / 200) * 2000
            best = seen.probabilities.amax(1) if len(seen) else place
            torch.testing.assert_close(best, 0.5 + place / 100, rtol=0, atol=2e-3)
        learnt, crowds = learnt + len(seen), crowds + len(found.ignored_instances)
    assert learnt > 300
    assert crowds > 30
