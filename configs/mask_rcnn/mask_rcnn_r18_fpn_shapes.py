# Mask R-CNN for Shapes on a CPU: a half-width ResNet-18 from scratch, 64 channels throughout, few proposals.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/schedules/shapes.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/datasets/shapes_easy_instance.py",
    "../_base_/default_runtime.py",
]
width, num_classes, max_iters = 64, 8, 600

bn = dict(type="BN", requires_grad=True)
kept = dict(frozen_stages=-1, norm_eval=False, zero_init_residual=False, init_cfg=None)
head = dict(in_channels=width, num_classes=num_classes)
model = dict(
    backbone=dict(depth=18, base_channels=32, norm_cfg=bn, **kept),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=width, norm_cfg=bn),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, finest_scale=28),
        mask_roi_extractor=dict(out_channels=width, finest_scale=28),
        bbox_head=dict(fc_out_channels=256, reg_class_agnostic=True, **head),
        mask_head=dict(num_convs=1, conv_out_channels=width, class_agnostic=True, norm_cfg=bn, **head),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.25)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=50)),
)

env_cfg = dict(threads="spare")
log_processor, default_hooks = dict(by_epoch=False), dict(checkpoint=dict(by_epoch=False, interval=max_iters))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
