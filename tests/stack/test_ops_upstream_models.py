"""Narrow versions of upstream's models train a step and predict, on whichever operators are active."""

import sys
from pathlib import Path

import mmdet
import mmseg
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from ibkd_mm.stack.ops.extension import OPERATORS

SIZE = 64
RESNET18 = {"depth": 18, "init_cfg": None}


def upstream(package, path, **narrow):
    config = Config.fromfile(Path(package.__path__[0], ".mim", "configs", path))
    config.merge_from_dict({"model": narrow})
    return config.model


def mask_rcnn():
    return upstream(
        mmdet,
        "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        backbone=RESNET18,
        neck={"in_channels": [64, 128, 256, 512], "out_channels": 16},
        rpn_head={"in_channels": 16, "feat_channels": 16},
        roi_head={
            "bbox_roi_extractor": {"out_channels": 16},
            "mask_roi_extractor": {"out_channels": 16},
            "bbox_head": {"in_channels": 16, "fc_out_channels": 32, "num_classes": 2},
            "mask_head": {"in_channels": 16, "conv_out_channels": 16, "num_convs": 1, "num_classes": 2},
        },
        test_cfg={"rcnn": {"score_thr": 0.0}},
    )


def mask2former():
    attention = {
        "self_attn_cfg": {"embed_dims": 32},
        "ffn_cfg": {"embed_dims": 32, "feedforward_channels": 32},
    }
    return upstream(
        mmdet,
        "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
        data_preprocessor={"batch_augments": None},
        backbone=RESNET18,
        panoptic_head={
            "in_channels": [64, 128, 256, 512],
            "feat_channels": 32,
            "out_channels": 32,
            "num_things_classes": 2,
            "num_queries": 5,
            "pixel_decoder": {
                "encoder": {"num_layers": 1, "layer_cfg": attention},
                "positional_encoding": {"num_feats": 16},
            },
            "positional_encoding": {"num_feats": 16},
            "transformer_decoder": {
                "num_layers": 2,
                "layer_cfg": attention | {"cross_attn_cfg": {"embed_dims": 32}},
            },
            "loss_cls": {"class_weight": [1.0, 1.0, 0.1]},
        },
        panoptic_fusion_head={"num_things_classes": 2},
        train_cfg={"num_points": 64},
        test_cfg={"max_per_image": 5},
    )


def rtmdet_ins():
    return upstream(
        mmdet,
        "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py",
        backbone={"widen_factor": 0.125, "init_cfg": None},
        neck={"in_channels": [32, 64, 128], "out_channels": 16},
        bbox_head={"in_channels": 16, "feat_channels": 16, "num_classes": 2},
        test_cfg={"score_thr": 0.0},
    )


def deeplabv3plus():
    return upstream(
        mmseg,
        "deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        data_preprocessor={"size": (SIZE, SIZE)},
        pretrained=None,
        backbone={"depth": 18},
        decode_head={
            "c1_in_channels": 64,
            "c1_channels": 8,
            "in_channels": 512,
            "channels": 16,
            "num_classes": 2,
        },
        auxiliary_head={"in_channels": 256, "channels": 16, "num_classes": 2},
    )


def upernet():
    return upstream(
        mmseg,
        "upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py",
        data_preprocessor={"size": (SIZE, SIZE)},
        pretrained=None,
        backbone={"depth": 18},
        decode_head={"in_channels": [64, 128, 256, 512], "channels": 16, "num_classes": 2},
        auxiliary_head={"in_channels": 256, "channels": 16, "num_classes": 2},
    )


def segformer():
    return upstream(
        mmseg,
        "segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py",
        data_preprocessor={"size": (SIZE, SIZE)},
        backbone={"embed_dims": 8, "num_layers": [1, 1, 1, 1], "init_cfg": None},
        decode_head={"in_channels": [8, 16, 40, 64], "channels": 16, "num_classes": 2},
        test_cfg={"_delete_": True, "mode": "whole"},
    )


def detection_batch():
    """Two images with two boxes that their masks fill."""
    boxes = torch.tensor([[4.0, 6, 30, 40], [20, 20, 60, 62]])
    masks = np.zeros((2, SIZE, SIZE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    samples = []
    for _ in range(2):
        sample = DetDataSample(
            metainfo={
                "img_shape": (SIZE, SIZE),
                "ori_shape": (SIZE, SIZE),
                "scale_factor": (1.0, 1.0),
                "pad_shape": (SIZE, SIZE),
            }
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.tensor([0, 1]), masks=BitmapMasks(masks, SIZE, SIZE)
        )
        samples.append(sample)
    return samples


def segmentation_batch():
    labels = torch.zeros(1, SIZE, SIZE, dtype=torch.long)
    labels[:, :, SIZE // 2 :] = 1
    samples = []
    for _ in range(2):
        sample = SegDataSample(
            metainfo={"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE), "pad_shape": (SIZE, SIZE)}
        )
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return samples


@pytest.fixture
def called(monkeypatch):
    """Names of the operators that were called."""
    extension, names = sys.modules["mmcv._ext"], set()

    def recording(name, operator):
        def call(*args, **kwargs):
            names.add(name)
            return operator(*args, **kwargs)

        return call

    for name in OPERATORS:
        monkeypatch.setattr(extension, name, recording(name, getattr(extension, name)))
    return names


def train_and_predict(scope, config, samples):
    """Losses, the sum of the backbone's absolute gradients, and predictions."""
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in samples]
    with DefaultScope.overwrite_default_scope(scope):
        model = revert_sync_batchnorm(MODELS.build(config))
        model.init_weights()
        batch = model.data_preprocessor({"inputs": images, "data_samples": samples}, training=True)
        loss, log = model.parse_losses(model.train()(**batch, mode="loss"))
        loss.backward()
        with torch.no_grad():
            predictions = model.eval()(**batch, mode="predict")
    gradients = [p.grad.abs().sum() for p in model.backbone.parameters() if p.grad is not None]
    return log, torch.stack(gradients).sum(), predictions


@pytest.mark.parametrize(
    ("config", "operators"),
    [
        (mask_rcnn, {"nms", "roi_align_forward", "roi_align_backward"}),
        (mask2former, set()),
        (rtmdet_ins, {"nms"}),
    ],
)
def test_upstream_detectors_train_and_predict(config, operators, called):
    log, gradient, predictions = train_and_predict("mmdet", config(), detection_batch())
    assert all(value.isfinite() for value in log.values())
    assert gradient.isfinite()
    assert gradient > 0
    instances = predictions[0].pred_instances
    assert 0 < len(instances) <= 100
    assert instances.masks.shape == (len(instances), SIZE, SIZE)
    assert called == operators


@pytest.mark.parametrize("config", [deeplabv3plus, upernet, segformer])
def test_upstream_segmentors_train_and_predict_without_any_operator(config, called):
    log, gradient, predictions = train_and_predict("mmseg", config(), segmentation_batch())
    assert all(value.isfinite() for value in log.values())
    assert gradient.isfinite()
    assert gradient > 0
    assert predictions[0].pred_sem_seg.data.shape == (1, SIZE, SIZE)
    assert called == set()
