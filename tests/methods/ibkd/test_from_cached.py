"""Instances from the cache: counts of pixels to logits, and the loss of what is seen beside the student."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.teacher_caches import entries_of, pack, unpack
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ibkd_mm.apis import load_config
from ibkd_mm.datasets.shapes.build import ShapesSpec
from ibkd_mm.datasets.transforms import count_cells
from ibkd_mm.distill import FrozenTeacherDistill
from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd.matching import match
from ibkd_mm.methods.ibkd.teacher_instances import from_cached
from ibkd_mm.methods.ibkd.teacher_predictions import InstancePredictor
from ibkd_mm.offline import CachedInstances

HARD = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard"
PICTURES, SIZE = 4, 96
SURE = 0.8
"""Above this no two queries are of the same instance; which of two is matched, a pixel may decide."""


def seen(cells: Tensor, scores: list[float], classes: int = 3) -> InstanceData:
    count = len(cells)
    odds = torch.full((count, classes if count else 0), 0.25)
    return InstanceData(
        bboxes=torch.arange(4.0 * count).reshape(count, 4),
        mask_cells=cells,
        scores=torch.tensor(scores),
        probabilities=odds,
    )


def step(truth: Any) -> Any:
    return SimpleNamespace(truth=truth, outputs=SimpleNamespace(class_logits=torch.zeros(1, 3, 4)))


def test_shares_of_cells_become_probabilities_and_pictures_are_padded(truth: Callable) -> None:
    cells = torch.tensor([[[0, 4], [8, 16]]], dtype=torch.uint8)
    wide = torch.full((2, 2, 3), 16, dtype=torch.uint8)
    nothing = seen(torch.zeros(0, 3, 1, dtype=torch.uint8), [])
    own = step(truth([0], torch.zeros(1, 4, 4)))
    found = from_cached([seen(cells, [0.5]), nothing, seen(wide, [0.7, 0.9])], own, 0.9)
    assert found.image.tolist() == [0, 2, 2]
    assert found.scores.tolist() == pytest.approx([0.5, 0.7, 0.9])
    assert found.boxes.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert found.probabilities.tolist() == [[0.25] * 3] * 3
    shares = found.mask_logits.sigmoid()
    assert shares.shape == (3, 4, 4)
    assert shares[0].flatten().tolist() == pytest.approx(
        [0.1, 0.225, 0.1, 0.1, 0.45, 0.9, 0.1, 0.1, *[0.1] * 8], abs=1e-6
    )
    assert shares[1, :2, :3].flatten().tolist() == pytest.approx([0.9] * 6)
    assert shares[1].sum() == pytest.approx(6 * 0.9 + 10 * 0.1)


def test_of_no_picture_anything_was_seen(truth: Callable) -> None:
    nothing = seen(torch.zeros(0, 3, 1, dtype=torch.uint8), [])
    found = from_cached([nothing, nothing], step(truth([0], torch.zeros(1, 4, 4))))
    assert len(found) == 0
    assert found.probabilities.shape == (
        0,
        3,
    )  # the classes of the student, with whose scores they are compared
    assert found.mask_logits.shape == (0, 4, 4)


def test_in_a_padded_batch_masks_lie_where_those_of_the_truth_lie(truth: Callable) -> None:
    """The picture is narrower than the batch: stretched to it, its masks would miss the true ones."""
    cells = torch.zeros(1, 8, 16)
    cells[0, 2:6, 4:7] = 1
    real = truth([0], cells)
    own = seen((cells[:, :, :8] * 16).byte(), [0.9])
    found = from_cached([own], step(real))
    assert [each.tolist() for each in match(found, real, 1, 0.99)] == [[0], [0]]


def test_a_student_of_boxes_alone_is_refused() -> None:
    with pytest.raises(UserError, match="boxes alone"):
        from_cached([], step(SimpleNamespace(masks=None)))


@pytest.fixture(scope="module")
def samples() -> dict[str, Any]:
    """Shapes as a loader would give them, undistorted."""
    spec, data = ShapesSpec("easy", PICTURES, 1, SIZE), {"inputs": [], "data_samples": []}
    meta = {"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE), "scale_factor": (1.0, 1.0)}
    for index in range(PICTURES):
        scene = spec.scene("train", index)
        masks = np.asarray(scene.masks, np.uint8)
        boxes = [cv2.boundingRect(mask) for mask in masks]
        corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=torch.float)
        instances = InstanceData(
            bboxes=corners,
            labels=torch.as_tensor(np.asarray(scene.labels)),
            mask_cells=count_cells(torch.from_numpy(masks), 4),
        )
        picture = np.ascontiguousarray(scene.image.transpose(2, 0, 1))
        data["inputs"].append(torch.from_numpy(picture))
        data["data_samples"].append(DetDataSample(gt_instances=instances, metainfo={**meta, "img_id": index}))
    return data


def cached(model: FrozenTeacherDistill, samples: dict[str, Any]) -> dict[str, Any]:
    """Write what the teacher sees, and add what a pipeline would make of it."""
    instances = {"type": "ibkd_mm.QueryInstances", "score_thr": SURE}
    run = InstancePredictor(model.frozen, model.data_preprocessor, instances, topk_classes=5)
    entries: dict[str, CachedInstances] = {
        key: unpack(pack(entry)) for key, entry in entries_of(run, samples)
    }
    for sample in samples["data_samples"]:
        entry = entries[str(sample.img_id)]
        sample.teacher_instances = InstanceData(
            bboxes=torch.from_numpy(entry.boxes.copy()),
            mask_cells=count_cells(torch.from_numpy(entry.masks), 4),
            scores=torch.from_numpy(entry.scores),
            probabilities=torch.from_numpy(entry.probabilities),
        )
    return samples


@pytest.fixture(scope="module")
def models(built: Callable) -> list[FrozenTeacherDistill]:
    """One student beside the shipped teacher, and the same without it."""
    described = [load_config(f"{HARD}{kind}.py").model.to_dict() for kind in ("_instance", "_cached")]
    for each in described:
        each["distiller"]["distill_losses"]["loss_instance"]["box_weight"] = 1.0
        each["distiller"]["connectors"]["instances"]["score_thr"] = SURE
    online, other = (built(each).train() for each in described)
    other.load_state_dict(online.state_dict())
    return [online, other]


@pytest.mark.parametrize(("sureness", "least", "most"), [(0.98, 0.4, 0.7), (0.9999, 0.8, 1.1)])
def test_the_loss_from_the_cache_is_close_to_that_beside_the_student(
    models: list[FrozenTeacherDistill],
    samples: dict[str, Any],
    losses_of: Callable,
    sureness: float,
    least: float,
    most: float,
) -> None:
    """Classes are those that are seen, boxes near to a pixel.

    Masks of a cache are hard: their loss is that of a teacher which is as sure of all cells, and this one is
    surer than 0.98 by far.
    """
    online, other = models
    other.distiller.distill_losses["loss_instance"].cached_max_probability = sureness
    states = [copy.deepcopy(model.state_dict()) for model in models]
    expected, found = losses_of(online, cached(online, samples)), losses_of(other, samples)
    for model, state in zip(models, states, strict=True):
        model.load_state_dict(state)  # statistics of norms
    own = {name: value for name, value in found.items() if name.startswith("student.")}
    assert own == {name: expected[name] for name in own}
    assert found["distill.instance.matched"] == expected["distill.instance.matched"] > 0.5
    shares = {
        name: float(found[f"distill.instance.{name}"] / expected[f"distill.instance.{name}"])
        for name in ("loss_cls", "loss_bbox", "loss_mask")
    }
    assert shares["loss_cls"] == pytest.approx(1, abs=1e-4)
    assert shares["loss_bbox"] == pytest.approx(1, abs=0.02)
    assert least < shares["loss_mask"] < most
