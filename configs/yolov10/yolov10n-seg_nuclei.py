# Many small objects of one class, few images: 200 epochs of 444 at batch 16. The schedule is ours.
_base_ = [
    "../_base_/models/yolov10n_seg.py",
    "../_base_/datasets/nuclei_mosaic.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/default_runtime.py",
]
max_epochs = 200
# with so few steps, slower norm statistics would not follow the weights
norm = dict(norm_cfg=dict(momentum=0.1))
model = dict(backbone=norm, neck=norm, bbox_head=dict(num_classes=1, **norm))

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=5,
        end=max_epochs,
        eta_min=2e-5,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=10)
val_cfg, test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
default_hooks = dict(checkpoint=dict(interval=10))
custom_hooks = [
    dict(type="ibkd_mm.StudentEMAHook", decay=0.998, warmup=500),
    dict(type="ibkd_mm.CloseMosaicHook", last=20),
]
