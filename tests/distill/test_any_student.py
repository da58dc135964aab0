"""Students that are no detectors learn from a teacher: with labels or without, with a head or without."""

from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

PIXELS = {"mean": [120.0] * 3, "std": [60.0] * 3}
OTHER_PIXELS = {"mean": [0.0] * 3, "std": [255.0] * 3}
ADAMW = {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.0}}
SIDE = 32
CWD = {"type": "mmrazor.ChannelWiseDivergence"}


class Backbone(BaseModel):
    """A network without a head: it has no loss of its own."""

    def __init__(self, channels: int, pixels: dict[str, Any]) -> None:
        super().__init__(data_preprocessor={"type": "ImgDataPreprocessor", **pixels})
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.ReLU()),
        )

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        """Compute the feature maps of the last stage."""
        assert mode == "tensor"
        return self.stages(inputs)


class Classifier(Backbone):
    """A network with a class for each image."""

    def __init__(self, channels: int, pixels: dict[str, Any], classes: int = 5) -> None:
        super().__init__(channels, pixels)
        self.fc = nn.Linear(2 * channels, classes)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
        """Compute class logits, or their loss; `data_samples` are class numbers."""
        logits = self.fc(self.stages(inputs).mean((2, 3)))
        if mode != "loss":
            return logits
        return {"loss": nn.functional.cross_entropy(logits, torch.tensor(data_samples))}


def segmentor(channels: int, classes: int, out_channels: int, pixels: dict[str, Any]) -> BaseModel:
    """Build mmseg's encoder and decoder around a small UNet, as a user's config would describe it."""
    backbone = {"type": "UNet", "base_channels": channels, "num_stages": 3, "norm_cfg": {"type": "BN"}}
    one_each = {"strides": (1, 1, 1), "enc_num_convs": (1, 1, 1), "dec_num_convs": (1, 1)}
    sampling = {"downsamples": (True, True), "enc_dilations": (1, 1, 1), "dec_dilations": (1, 1)}
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": out_channels == 1}
    head = {
        **{"type": "FCNHead", "in_channels": channels, "channels": channels, "num_convs": 1, "in_index": -1},
        **{"num_classes": classes, "out_channels": out_channels, "loss_decode": loss, "dropout_ratio": 0.0},
    }
    if out_channels == 1:
        head["threshold"] = 0.5
    preprocessor = {"type": "SegDataPreProcessor", "size": (SIDE, SIDE), **pixels}
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(
            {
                "type": "EncoderDecoder",
                "data_preprocessor": preprocessor,
                "backbone": {**backbone, **one_each, **sampling},
                "decode_head": head,
                "train_cfg": {},
                "test_cfg": {"mode": "whole"},
            }
        )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def distilled(student: BaseModel, teacher: BaseModel, source: str, loss: dict[str, Any], **given: Any) -> Any:
    recorder = {"output": {"type": "ModuleOutputs", "source": source}}
    arguments = {
        name: {"recorder": "output", "from_student": name in ("student", "preds_S")}
        for name in given.pop("arguments", ("preds_S", "preds_T"))
    }
    distiller = {
        "type": "ibkd_mm.CheckedDistiller",
        "student_recorders": recorder,
        "teacher_recorders": recorder,
        "distill_losses": {"loss_teacher": loss},
        "loss_forward_mappings": {"loss_teacher": arguments},
    }
    model = {"type": "ibkd_mm.FrozenTeacherDistill", "architecture": student, "teacher": teacher}
    return MODELS.build({**model, "distiller": distiller, **given})


def images(count: int = 2) -> list[Tensor]:
    return [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in range(count)]


def segmented(classes: int) -> dict[str, Any]:
    """Draw images whose halves are of different classes."""
    samples = []
    for index in range(2):
        labels = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
        labels[:, :, SIDE // 2 :] = (index + 1) % classes
        sample = SegDataSample(metainfo={"img_shape": (SIDE, SIDE), "ori_shape": (SIDE, SIDE)})
        samples.append(sample.set_data({"gt_sem_seg": PixelData(data=labels)}) or sample)
    return {"inputs": images(), "data_samples": samples}


def trained(model: Any, data: Any, steps: int = 8) -> list[dict[str, Tensor]]:
    """Train on one batch; return what each step logged."""
    wrapper = build_optim_wrapper(model.train(), ADAMW)
    return [model.train_step(data, wrapper) for _ in range(steps)]


def fell(logged: list[dict[str, Tensor]], name: str = "distill.loss_teacher") -> bool:
    return bool(logged[-1][name] < 0.9 * logged[0][name])


def test_a_backbone_learns_without_labels() -> None:
    bridged = {"type": "ibkd_mm.BridgedFeatureLoss", "loss": {"type": "ibkd_mm.SyncedPKDLoss"}}
    model = distilled(
        Backbone(4, PIXELS),
        Backbone(8, OTHER_PIXELS),
        "stages.1",
        {**bridged, "bridge": {"type": "ibkd_mm.CFB", "groups": 1}},
        arguments=("student", "teacher"),
        student_mode="tensor",
    )
    assert model.distiller.distill_losses["loss_teacher"].bridge.levels[0][0].in_channels == 8
    logged = trained(model, {"inputs": images()})
    assert set(logged[0]) == {"loss", "distill.loss_teacher"}
    assert fell(logged)


def test_a_classifier_learns_from_logits_and_from_labels() -> None:
    loss, data = {"type": "mmrazor.KLDivergence", "tau": 2.0}, {"inputs": images(), "data_samples": [1, 3]}
    for labels in (True, False):
        student, teacher = Classifier(4, PIXELS), Classifier(8, OTHER_PIXELS)
        logged = trained(distilled(student, teacher, "fc", loss, calculate_student_loss=labels), data)
        own = {"student.loss"} if labels else set()
        assert set(logged[0]) == {"loss", "distill.loss_teacher", *own}
        assert fell(logged, "loss")


@pytest.mark.parametrize(("classes", "out_channels"), [(2, 1), (3, 3)], ids=["binary", "classes"])
def test_a_segmentor_learns_from_logits_and_from_labels(classes: int, out_channels: int) -> None:
    for labels in (True, False):
        student = segmentor(4, classes, out_channels, PIXELS)
        teacher = segmentor(8, classes, out_channels, OTHER_PIXELS)
        source = "decode_head.conv_seg"
        model = distilled(student, teacher, source, CWD, calculate_student_loss=labels)
        logged = trained(model, segmented(classes))
        assert ("student.decode.loss_ce" in logged[0]) == labels
        assert fell(logged, "loss")
        assert list(model.state_dict()) == list(student.state_dict())


def test_nothing_to_learn_from_is_refused() -> None:
    model = distilled(Backbone(4, PIXELS), Backbone(4, PIXELS), "stages.1", CWD, student_mode="tensor")
    model.distiller.factors["loss_teacher"] = 0.0
    with pytest.raises(UserError, match="Nothing to train on"):
        trained(model, {"inputs": images()}, steps=1)
    with pytest.raises(UserError, match="student_mode='loss' or 'tensor', found 'predict'"):
        distilled(Backbone(4, PIXELS), Backbone(4, PIXELS), "stages.1", CWD, student_mode="predict")
