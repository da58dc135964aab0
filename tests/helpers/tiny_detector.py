"""A detector small enough to train in a second, and eight pictures for it; as a config file on disk."""

import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

CONFIG = """
_base_ = ['{upstream}/models/retinanet_r50_fpn.py', '{upstream}/default_runtime.py']
custom_imports = dict(imports=['ibkd_mm.register_all'], allow_failed_imports=False)
data_root = '{data}'
backbone = dict(
    depth=18, base_channels=8, frozen_stages=1, norm_eval=True,
    norm_cfg=dict(requires_grad=False), init_cfg=None)
model = dict(
    backbone=backbone,
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    bbox_head=dict(num_classes=1, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
test_pipeline = [pipeline[0], dict(type='Resize', scale=(64, 64), keep_ratio=True), *pipeline[1:]]
dataset = dict(
    type='CocoDataset', data_root=data_root, ann_file='boxes.json', data_prefix=dict(img='pictures/'),
    metainfo=dict(classes=('box',)))
loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
train_dataloader = dict(dataset=dict(pipeline=pipeline, **dataset), **loader)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, test_mode=True, **dataset), **loader)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + '/boxes.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=100)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2), logger=dict(interval=1))
auto_scale_lr = dict(enable=False, base_batch_size=4)
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)
"""


def write_tiny(folder: Path, extra: str = "", pictures: int = 8) -> Path:
    """Write data and config and return the config's path; every picture has one box, at one place."""
    (folder / "data" / "pictures").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(pictures):
        picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.rectangle(picture, (10, 12), (40, 44), (255, 0, 0), -1)
        cv2.imwrite(str(folder / "data" / "pictures" / f"{index}.png"), picture)
    (folder / "data" / "boxes.json").write_text(json.dumps(_annotations(pictures)))
    config = folder / "tiny.py"
    config.write_text(CONFIG.format(data=(folder / "data").as_posix(), upstream=_upstream()) + extra)
    return config


def _upstream() -> str:
    """Given as a path, since mmengine reads two hundred metafiles to resolve `mmdet::`."""
    package = find_spec("mmdet")
    assert package is not None
    return (Path(str(package.origin)).parent / ".mim" / "configs" / "_base_").as_posix()


def _annotations(pictures: int) -> dict:
    outline = [10, 12, 40, 12, 40, 44, 10, 44]
    box = {"category_id": 1, "bbox": [10, 12, 30, 32], "area": 960, "iscrowd": 0, "segmentation": [outline]}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(pictures)],
        "annotations": [{"id": i + 1, "image_id": i, **box} for i in range(pictures)],
        "categories": [{"id": 1, "name": "box"}],
    }
