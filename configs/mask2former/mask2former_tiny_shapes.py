# The small teacher for Shapes `hard`. README.md in this folder describes its shipped weights.
_base_ = [
    "../_base_/models/mask2former_tiny.py",
    "../_base_/default_runtime.py",
    "../_base_/datasets/shapes.py",
]
# ImageNet weights of MobileNetV2, see README.md. To train without them: model.backbone.init_cfg=None.
imagenet = dict(type="Pretrained", checkpoint="mobilenetv2_imagenet.pth")
model = dict(backbone=dict(init_cfg=imagenet))

# The teacher is trained on more and harder images than its students and evaluated on theirs. Then
# mask2former_tiny_shapes_finetune.py trains it on images like theirs.
many = dict(data_root="data/shapes/hardest-16k", spec=dict(_base_.shapes.spec, preset="hardest", train=16000))
train_dataloader = dict(batch_size=8, dataset=dict(_delete_=True, **dict(_base_.shapes_train, **many)))
val_dataloader = dict(batch_size=8, dataset=dict(_delete_=True, **_base_.shapes_val))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, **_base_.shapes_metric)
test_evaluator = val_evaluator

# A small model and a short training need a higher learning rate than upstream's, also in the backbone.
max_iters = 4700
optim_wrapper = dict(
    optimizer=dict(lr=4e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0, decay_mult=1.0))),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=300),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.01, by_epoch=False, begin=3200, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=1000, dynamic_intervals=None)
default_hooks = dict(checkpoint=dict(interval=500))
