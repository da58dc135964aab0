# The paper's Cityscapes recipe (90k iterations, poly, 512x1024 crops, SyncBN), but started from COCO weights.
_base_ = ["./mask2former_r50_coco.py", "../_base_/datasets/cityscapes_instance.py"]
num_classes, max_iters = 8, 90000

pad = dict(type="BatchFixedSizePad", size=(512, 1024), img_pad_value=0, pad_mask=True, pad_seg=False)
model = dict(
    data_preprocessor=dict(batch_augments=[pad]),
    backbone=dict(norm_cfg=dict(type="SyncBN", requires_grad=True), norm_eval=False),
    panoptic_head=dict(
        num_things_classes=num_classes, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes),
)

train_pipeline = [
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(1024, 512), recompute_bbox=True, allow_negative_crop=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
resize = dict(type="Resize", scale=(2048, 1024), keep_ratio=True)
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(_delete_=True, **_base_.cityscapes_train, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(_delete_=True, **_base_.cityscapes_val, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = _base_.cityscapes_metric

# The keys must be longer than upstream's `backbone`, which sets decay for norms (frozen there, trained here).
no_decay = dict(lr_mult=0.1, decay_mult=0.0)
norms = {f".bn{i}.{name}": no_decay for i in (1, 2, 3) for name in ("weight", "bias")}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={".downsample.1.": no_decay, **norms}))
param_scheduler = dict(_delete_=True, type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, end=max_iters)
train_cfg = dict(max_iters=max_iters, dynamic_intervals=None)
