"""What the tests of distillation share: ground truth, a student's step, a teacher's instances, models."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

import ibkd_mm  # noqa: F401
from helpers import ROOT
from ibkd_mm.distill import FrozenTeacherDistill
from ibkd_mm.methods.ibkd import TeacherInstances
from ibkd_mm.methods.ibkd.teacher_instances import boxes_from_mask_logits
from ibkd_mm.registry import MODELS
from ibkd_mm.stack.ops.execution import one_thread
from ibkd_mm.yolov10 import BranchStep, GroundTruth, HeadOutputs
from ibkd_mm.yolov10.structures import Assignment

BASES = ROOT / "configs" / "_base_"
STRIDE = 4


@pytest.fixture(scope="session")
def truth() -> Callable[..., GroundTruth]:
    """Make ground truth of (T, h, w) cells that are an instance's or not; its boxes bound them."""

    def make(image: Sequence[int], cells: Tensor) -> GroundTruth:
        boxes = torch.zeros(len(cells), 4)
        for box, mask in zip(boxes, cells, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            if len(rows):
                ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                box.copy_(torch.stack(ends) * STRIDE)
        return GroundTruth(
            image=torch.tensor(image, dtype=torch.long),
            boxes=boxes,
            labels=torch.zeros(len(cells), dtype=torch.long),
            masks=(cells * STRIDE**2).byte(),
            mask_stride=STRIDE,
        )

    return make


@pytest.fixture(scope="session")
def seen() -> Callable[..., TeacherInstances]:
    """Make a teacher's instances of the logits of their masks, (K, h, w)."""

    def make(
        image: Sequence[int],
        logits: Tensor,
        probabilities: Sequence[Sequence[float]] | None = None,
        scores: Sequence[float] | None = None,
    ) -> TeacherInstances:
        count = len(logits)
        return TeacherInstances(
            image=torch.tensor(image, dtype=torch.long),
            probabilities=torch.tensor(probabilities or [[0.9, 0.05]] * count).reshape(count, -1)
            if count
            else torch.zeros(0, 2),
            scores=torch.tensor(scores or [0.9] * count),
            mask_logits=logits,
            boxes=boxes_from_mask_logits(logits, STRIDE),
        )

    return make


@pytest.fixture(scope="session")
def step() -> Callable[..., BranchStep]:
    """Make a step of a branch with two classes, in which anchors were given to instances."""

    def make(
        truth: GroundTruth,
        batch: int,
        given: Sequence[tuple[int, int, float]],
        *,
        anchors: int = 4,
        channels: int = 3,
        dtype: torch.dtype = torch.float32,
    ) -> BranchStep:
        """Draw the outputs; `given` are anchors, their instances and the scores asked of them."""
        assert truth.masks is not None

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=dtype).requires_grad_()

        outputs = HeadOutputs(
            class_logits=draw(batch, 2, anchors),
            distance_logits=draw(batch, 4, anchors),
            coefficients=draw(batch, channels, anchors),
            prototypes=draw(batch, channels, *truth.masks.shape[1:]),
        )
        anchor, instance = (torch.tensor([one[at] for one in given], dtype=torch.long) for at in (0, 1))
        score = torch.tensor([one[2] for one in given], dtype=dtype)
        corner = torch.rand(batch, anchors, 2, dtype=dtype) * 4
        boxes = torch.cat([corner, corner + 2 + torch.rand_like(corner) * 8], dim=2).requires_grad_()
        assignment = Assignment(truth.image[instance], anchor, instance, score)
        return BranchStep(outputs, boxes, truth, assignment, {})

    return make


@pytest.fixture(scope="module", autouse=True)
def on_one_thread() -> Iterator[None]:
    with one_thread(torch.empty(0)):
        yield


@pytest.fixture(scope="session")
def teacher_config() -> Callable[[], dict[str, Any]]:
    """Describe a Mask2Former of 10 queries and three layers, of its own normalisation."""
    described = Config.fromfile(BASES / "models" / "mask2former_tiny.py").model
    described.backbone.update(init_cfg=None, norm_eval=False)
    head = described.panoptic_head
    head.num_queries, head.pixel_decoder.encoder.num_layers, head.transformer_decoder.num_layers = 10, 1, 2
    described.data_preprocessor.update(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], bgr_to_rgb=False)
    return lambda: copy.deepcopy(described.to_dict())


@pytest.fixture(scope="session")
def student_config() -> Callable[[], dict[str, Any]]:
    described = Config.fromfile(BASES / "models" / "yolov10n_seg.py").model
    described.bbox_head.num_classes = 8
    return lambda: copy.deepcopy(described.to_dict())


@pytest.fixture(scope="session")
def recipe() -> Callable[..., dict[str, Any]]:
    """Describe the shipped distiller, made to find something in what a teacher of random weights says.

    `whole` switches Bifocal Attention Integration on, so that all there is to train is trained.
    """
    described = Config.fromfile(BASES / "distillers" / "mask2former_yolov10.py").distiller.to_dict()
    described["connectors"]["instances"]["score_thr"] = 0.0
    described["distill_losses"]["loss_instance"].update(
        loss_weight=1.0, match_iou=0.01, box_weight=1.0, weighting={"type": "ibkd_mm.ContextWeights"}
    )

    def describe(*, whole: bool = False) -> dict[str, Any]:
        made = copy.deepcopy(described)
        return _with_bifocal(made) if whole else made

    return describe


def _with_bifocal(distiller: dict[str, Any]) -> dict[str, Any]:
    """Switch Bifocal Attention Integration on."""
    distiller["distill_losses"]["loss_cfb"].update(
        type="ibkd_mm.BifocalFeatureLoss", attention={"loss_weight": 1.0}, auxiliary={"loss_weight": 1.0}
    )
    distiller["loss_forward_mappings"]["loss_cfb"]["step"] = {"recorder": "one_to_many", "from_student": True}
    return distiller


@pytest.fixture(scope="session")
def built() -> Callable[..., Any]:
    """Build a model of mmdet's or ours, seeded."""

    def build(described: dict[str, Any], seed: int = 0) -> Any:
        torch.manual_seed(seed)
        with DefaultScope.overwrite_default_scope("mmdet"):
            return MODELS.build(ConfigDict(copy.deepcopy(described)))

    return build


@pytest.fixture
def distilled(
    built: Callable[..., Any],
    teacher_config: Callable[[], dict[str, Any]],
    student_config: Callable[[], dict[str, Any]],
    recipe: Callable[..., dict[str, Any]],
) -> Callable[..., FrozenTeacherDistill]:
    """Build a small distillation; a distiller, teacher or whatever else may be given."""

    def build(**given: Any) -> FrozenTeacherDistill:
        teacher = given.pop("teacher", None) or built(teacher_config(), seed=1)
        described = {"architecture": student_config(), "distiller": recipe(), "teacher": teacher, **given}
        return built({"type": "ibkd_mm.FrozenTeacherDistill", **described})

    return build


@pytest.fixture(scope="session")
def batch() -> Callable[..., dict[str, Any]]:
    """Draw pictures of 64x64, every other one narrower, each with one or two instances; as a loader would."""

    def draw(pictures: int = 2, seed: int = 0) -> dict[str, Any]:
        torch.manual_seed(seed)
        data: dict[str, Any] = {"inputs": [], "data_samples": []}
        for index in range(pictures):
            size = (64, 48 if index % 2 else 64)
            data["inputs"].append(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
            data["data_samples"].append(_drawn(size, 1 + index % 2))
        return data

    return draw


def _drawn(size: tuple[int, int], count: int) -> DetDataSample:
    boxes = torch.tensor([[4.0, 8.0, 36.0, 40.0], [20.0, 28.0, 44.0, 60.0]])[:count]
    cells = torch.zeros(count, size[0] // STRIDE, size[1] // STRIDE, dtype=torch.uint8)
    for cell, box in zip(cells, (boxes / STRIDE).int().tolist(), strict=True):
        cell[box[1] : box[3], box[0] : box[2]] = STRIDE**2
    instances = InstanceData(bboxes=boxes, labels=torch.arange(count) + 2, mask_cells=cells)
    meta = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0), "img_id": 0}
    return DetDataSample(gt_instances=instances, metainfo=meta)


@pytest.fixture(scope="session")
def losses_of() -> Callable[[nn.Module, dict[str, Any]], dict[str, Any]]:
    """Work out a model's losses of a batch that a loader gave."""

    def work_out(model: Any, data: dict[str, Any]) -> dict[str, Any]:
        return model(**model.data_preprocessor(copy.deepcopy(data), True), mode="loss")

    return work_out
