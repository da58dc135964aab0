"""The head: two branches over the same feature maps; one trains the network, the other predicts."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.anchors import make_anchors
from ibkd_mm.yolov10.assigner import pairs_inside
from ibkd_mm.yolov10.branch import PredictionBranch
from ibkd_mm.yolov10.criterion import BranchCriterion
from ibkd_mm.yolov10.detections import detect
from ibkd_mm.yolov10.distances import DistanceDecoder
from ibkd_mm.yolov10.layers import Layers, scaled_channels
from ibkd_mm.yolov10.predictor import Predictor
from ibkd_mm.yolov10.prototypes import Prototypes
from ibkd_mm.yolov10.structures import BranchStep, GroundTruth, HeadOutputs, Pairs
from ibkd_mm.yolov10.truth import collect_truth


@MODELS.register_module()
class YOLOv10SegHead(BaseModule):
    """YOLOv10's head, with masks.

    The one-to-many branch assigns many anchors to each instance, which trains the network well. The
    one-to-one branch assigns one, so that no NMS is needed; its gradients do not reach the feature maps and
    prototypes. Only the one-to-one branch predicts.

    Args:
        in_channels: nominal channels of the levels, from fine to coarse.
        widen_factor: scale of the number of channels.
        max_channels: maximum number of nominal channels, before scaling.
        reg_max: number of values in the distribution of a distance, from 0.
        mask: number of `prototypes`, and nominal `channels` of the layers before them; None for boxes only.
        prior: initial scores are those of `instances` in an image of `size` x `size`.
        losses: losses of each branch, see `BranchCriterion`; `loss_mask` is ignored without masks.
        train_cfg: the assigners `one_to_many` and `one_to_one`; None if the head is not trained.
        test_cfg: see `Predictor`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: Sequence[int],
        strides: Sequence[int],
        widen_factor: float,
        max_channels: int,
        reg_max: int,
        mask: Mapping[str, int] | None,
        prior: Mapping[str, Any],
        losses: Mapping[str, Any],
        norm_cfg: dict[str, Any],
        act_cfg: dict[str, Any],
        train_cfg: Mapping[str, Any] | None,
        test_cfg: Mapping[str, Any],
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.strides = tuple(strides)
        layers = Layers(norm_cfg, act_cfg)

        def scaled(nominal: int) -> int:
            return scaled_channels(nominal, widen_factor, max_channels)

        channels = [scaled(nominal) for nominal in in_channels]
        count = mask["prototypes"] if mask else 0
        self.one_to_many: PredictionBranch | None = PredictionBranch(
            layers, channels, num_classes=num_classes, bins=reg_max, prototypes=count
        )
        self.one_to_many.start_from(self.strides, **prior)
        self.one_to_one = deepcopy(self.one_to_many)
        self.prototypes = Prototypes(layers, channels[0], scaled(mask["channels"]), count) if mask else None
        self.decoder = DistanceDecoder(bins=reg_max)
        if mask is None:
            losses = {**losses, "loss_mask": None}
        self.criteria = nn.ModuleDict(
            {name: BranchCriterion(assigner=each, **losses) for name, each in (train_cfg or {}).items()}
        )
        self.predictor = Predictor(**test_cfg)

    def forward(self, x: Sequence[Tensor]) -> HeadOutputs:
        """Compute what is deployed: the one-to-one branch and the prototypes."""
        outputs = self.one_to_one(x)
        return outputs._replace(prototypes=None if self.prototypes is None else self.prototypes(x[0]))

    def steps(
        self, x: Sequence[Tensor], batch_data_samples: Sequence[DetDataSample]
    ) -> dict[str, BranchStep]:
        """Compute a training step of each branch, from the (B, C, H/s, W/s) levels and their ground truth."""
        if self.one_to_many is None or not self.criteria:
            raise UserError(
                "Expected a trainable YOLOv10, found one that was fused for deployment or "
                "built with train_cfg=None. Build it from its config and load weights from before fusing."
            )
        one_to_one = self.one_to_one([level.detach() for level in x])
        one_to_many, cells = self._one_to_many_outputs(x)
        if one_to_many.prototypes is not None:
            one_to_one = one_to_one._replace(prototypes=one_to_many.prototypes.detach())
        anchors = make_anchors(x, self.strides)
        truth = collect_truth(batch_data_samples, anchors.device, self.mask_stride, cells)
        pairs = pairs_inside(anchors[:, :2], truth)
        return {
            "one_to_many": self._step("one_to_many", one_to_many, anchors, truth, pairs),
            "one_to_one": self._step("one_to_one", one_to_one, anchors, truth, pairs),
        }

    def one_to_many_step(self, x: Sequence[Tensor], truth: GroundTruth) -> BranchStep:
        """Compute a step of the one-to-many branch on ground truth that was collected before."""
        anchors = make_anchors(x, self.strides)
        outputs, _ = self._one_to_many_outputs(x)
        return self._step("one_to_many", outputs, anchors, truth, pairs_inside(anchors[:, :2], truth))

    def _one_to_many_outputs(self, x: Sequence[Tensor]) -> tuple[HeadOutputs, tuple[int, int] | None]:
        """Run the one-to-many branch and the prototypes; also return the height and width of these."""
        assert self.one_to_many is not None
        outputs = self.one_to_many(x)
        if self.prototypes is None:
            return outputs, None
        prototypes = self.prototypes(x[0])
        return outputs._replace(prototypes=prototypes), prototypes.shape[-2:]

    def _step(
        self, name: str, outputs: HeadOutputs, anchors: Tensor, truth: GroundTruth, pairs: Pairs
    ) -> BranchStep:
        boxes = self.decoder(outputs.distance_logits, anchors)
        return self.criteria[name](outputs, boxes, anchors, truth, pairs)

    def loss(self, x: Sequence[Tensor], batch_data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        """Compute the losses of both branches, named `branch.loss`."""
        steps = self.steps(x, batch_data_samples)
        return {f"{name}.{key}": loss for name, step in steps.items() for key, loss in step.losses.items()}

    def predict(
        self, x: Sequence[Tensor], batch_data_samples: Sequence[DetDataSample], rescale: bool = True
    ) -> list[InstanceData]:
        """Predict the instances of each image: of the original if `rescale`, else of the network's input."""
        outputs = self(x)
        with torch.autocast(x[0].device.type, enabled=False):
            found = detect(outputs, make_anchors(x, self.strides), self.decoder, self.predictor.max_per_img)
            metas = [sample.metainfo for sample in batch_data_samples]
            return self.predictor.instances(
                found, outputs.prototypes, metas, stride=self.mask_stride, rescale=rescale
            )

    def drop_training_branch(self) -> None:
        """Remove what only training needs."""
        self.one_to_many = None
        self.criteria = nn.ModuleDict()

    @property
    def mask_stride(self) -> int:
        """Side of a prototype's cell in pixels of the network's input."""
        return self.strides[0] // 2
