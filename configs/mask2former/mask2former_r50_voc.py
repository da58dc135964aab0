# Fine-tuning from COCO on VOC at 512x512: 30 epochs of SBD's 8,498 images at batch 16. The schedule is ours.
_base_ = ["./mask2former_r50_coco.py", "../_base_/datasets/voc_instance.py"]
num_classes, size, max_iters = 20, (512, 512), 16000

pad = dict(
    type="BatchFixedSizePad", size=size, img_pad_value=0, pad_mask=True, mask_pad_value=0, pad_seg=False
)
model = dict(
    data_preprocessor=dict(batch_augments=[pad]),
    panoptic_head=dict(
        num_things_classes=num_classes, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes),
)

train_pipeline = [
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=size, recompute_bbox=True, allow_negative_crop=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
    dict(type="PackDetInputs"),
]
resize = dict(type="Resize", scale=size, keep_ratio=True)
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(_delete_=True, **_base_.voc_train, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(_delete_=True, **_base_.voc_val, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = _base_.voc_metric

optim_wrapper = dict(optimizer=dict(lr=5e-5))
param_scheduler = dict(end=max_iters, milestones=[14222, 15407])
train_cfg = dict(max_iters=max_iters, val_interval=1000, dynamic_intervals=None)
default_hooks = dict(checkpoint=dict(interval=1000))
