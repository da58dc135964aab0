# A plain real-time student for Shapes, from scratch: about three minutes of training on two CPU cores.
_base_ = [
    "mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py",
    "../_base_/default_runtime.py",
    "../_base_/datasets/shapes.py",
]
max_iters = 340
bn = dict(type="BN", requires_grad=True)
model = dict(
    backbone=dict(norm_cfg=bn, init_cfg=None),
    neck=dict(norm_cfg=bn),
    bbox_head=dict(num_classes=8, norm_cfg=bn),
)
loader = dict(batch_size=8, num_workers=1, pin_memory=False)
train_dataloader = dict(**loader, dataset=dict(_delete_=True, **_base_.shapes_train))
val_dataloader = dict(**loader, dataset=dict(_delete_=True, **_base_.shapes_val))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **_base_.shapes_metric)
test_evaluator = val_evaluator

memory_format, env_cfg = "channels_last", dict(threads="spare")
optim_wrapper = dict(
    type="ibkd_mm.CpuAmpOptimWrapper",
    dtype="auto",
    optimizer=dict(lr=1e-3, fused=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=max_iters))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002, update_buffers=True)]
