# The student alone on Shapes `hard`, from scratch.
_base_ = [
    "../_base_/models/yolov10n_seg.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/schedules/shapes.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/default_runtime.py",
]
max_iters = 2000
env_cfg = dict(threads="spare")
# with so few steps, slower norm statistics would not follow the weights
norm = dict(norm_cfg=dict(momentum=0.1))
# boxes are learned long before classes, so the classification loss has four times its usual weight
classes = dict(losses=dict(loss_cls=dict(loss_weight=2.0)))
model = dict(backbone=norm, neck=norm, bbox_head=dict(num_classes=8, **classes, **norm))
train_dataloader = dict(batch_size=8)

optim_wrapper = dict(
    # the first gradients are twenty times as large as later ones: AdamW must forget them in a hundred steps
    optimizer=dict(lr=2e-3, betas=(0.9, 0.99)),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=2e-5),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=500)
log_processor, default_hooks = dict(by_epoch=False), dict(checkpoint=dict(by_epoch=False, interval=500))
custom_hooks = [dict(type="ibkd_mm.StudentEMAHook", decay=0.995, warmup=200)]
